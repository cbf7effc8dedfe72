"""Which hyper-parameters mattered: Optuna's importances, slices and parallel coordinates."""

import warnings
from functools import partial
from typing import TYPE_CHECKING

import optuna
import pandas as pd
import plotly.graph_objects as go

from analysis.pages.palette import ACCENT, SECOND
from analysis.pages.png import new_figure
from analysis.pages.records import Search
from analysis.pages.section import Section
from analysis.pages.study import Comparable, comparable, read_journal, thinned, varying
from analysis.pages.text import compact, count, plot_text, share
from trainable.errors import UserError
from trainable.escape import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna.importance import BaseImportanceEvaluator

MOST = 2000
"""Trials of which importances are computed."""
MOST_FORESTS = 150
"""Trials that fANOVA's random forest is fitted to: it takes seconds where there are more."""
FEW = 30
"""Trials below which importances are noise, mostly."""
MEASURES = {"best": ("PED-ANOVA: what sets the best tenth apart", ACCENT),
            "all": ("fANOVA: what moves the score at all", SECOND)}  # fmt: skip
"""Columns of the importances, what each means, and its colour."""
METHODS = (
    '<p class="note">Methods, as Optuna has them: Watanabe, Bansal, Hutter: <a href="https://arxiv.org/abs/2304.10255">'
    "PED-ANOVA</a>, IJCAI 2023. Hutter, Hoos, Leyton-Brown: "
    '<a href="https://proceedings.mlr.press/v32/hutter14.html">An Efficient Approach for Assessing Hyperparameter '
    "Importance</a>, ICML 2014.</p>"
)
KEY, TITLE = "importance", "Which hyper-parameters mattered"


def importance_sections(search: Search) -> list[Section]:
    """Importance, slices and parallel coordinates; one section that says why not, where the study has too little."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        known = comparable(read_journal(search.folder), MOST, search.step_epochs)
    except UserError as error:
        return [Section(KEY, TITLE, f"Not known: {error}.")]
    if known is None:
        return [Section(KEY, TITLE, "Too few trials were scored after the same epoch to tell; it takes eight.")]
    table = importances(known.study)
    if table.empty:
        return [Section(KEY, TITLE, "No hyper-parameter that all trials have varied, or all trials scored the same.")]
    from analysis.pages.slices import parallel_section, slices_section

    return [importance_section(known, table), slices_section(known), parallel_section(known)]


def importances(study: optuna.Study) -> pd.DataFrame:
    """name, and its shares by PED-ANOVA (`best`) and fANOVA (`all`), of what all trials have and what varies.

    The highest first; each measure's shares add up to 1. Empty where nothing varies or all scores are the same.
    """
    trials = study.get_trials(deepcopy=False)
    names = [name for name in varying(study) if all(name in trial.params for trial in trials)]
    if not names or len({trial.value for trial in trials}) < 2:
        return pd.DataFrame({"name": [], "best": [], "all": []})
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator  # with scikit-learn: a second

    best = evaluated(study, names, PedAnovaImportanceEvaluator())
    every = evaluated(thinned(study, MOST_FORESTS), names, FanovaImportanceEvaluator(seed=0))
    frame = pd.DataFrame({"best": best, "all": every}).rename_axis("name").reset_index()
    return frame.fillna(0.0).sort_values("best", ascending=False, ignore_index=True)


def evaluated(study: optuna.Study, names: list[str], evaluator: "BaseImportanceEvaluator") -> pd.Series:
    """Importance by name."""
    from optuna.importance import get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=evaluator, params=names)
    return pd.Series({name: float(value) for name, value in found.items()}, dtype=float)


def importance_section(known: Comparable, table: pd.DataFrame) -> Section:
    """Bars of the importances."""
    shown = table.rename(columns={"name": "hyper-parameter"})
    readable = shown.assign(**{name: table[name].map(share) for name in MEASURES})
    readable = readable.rename(columns={"best": "PED-ANOVA", "all": "fANOVA"})
    return Section(KEY, TITLE, caption(known, table), draw(table), METHODS, readable, partial(draw_png, table))


def caption(known: Comparable, table: pd.DataFrame) -> str:
    """What matters most, and what was compared."""
    left_out = [name for name in varying(known.study) if name not in set(table["name"])]
    first, moves = table.iloc[0], table.sort_values("all").iloc[-1]
    same = moves["name"] == first["name"]
    return (
        f"{first['name']} matters most for being among the best tenth ({share(first['best'], 0)})"
        + (f", and for the score as a whole ({share(moves['all'], 0)})" if same else
           f"; over all trials {moves['name']} moves the score most ({share(moves['all'], 0)})")
        + f". Compared is select top-1 after epoch {compact(known.epoch)}, which {count(known.known, 'trial')} "
        "reached, so that early stopping doesn't pass for a hyper-parameter's effect."
        + (f" Not ranked, as only some trials have it: {printable(', '.join(left_out))}." if left_out else "")
        + (" So few trials give a hint at most." if known.known < FEW else "")
    )  # fmt: skip


def draw(table: pd.DataFrame) -> go.Figure:
    """Two bars a hyper-parameter."""
    figure, shown = go.Figure(), table.iloc[::-1]
    for name, (meaning, colour) in reversed(MEASURES.items()):
        figure.add_bar(
            x=shown[name], y=shown["name"].map(plot_text), orientation="h", marker={"color": colour}, name=meaning,
            texttemplate="%{x:.0%}", textposition="outside", cliponaxis=False,
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )  # fmt: skip
    most = float(table[list(MEASURES)].max().max())
    figure.update_layout(
        height=130 + 44 * len(table), bargap=0.25, legend={"traceorder": "reversed"},
        xaxis={"tickformat": ".0%", "range": [0, 1.15 * most], "title": {"text": "share of the importance"}},
        yaxis={"automargin": True, "showgrid": False},
    )  # fmt: skip
    return figure


def draw_png(table: pd.DataFrame) -> "Figure":
    """The same by matplotlib."""
    figure = new_figure(1.4 + 0.5 * len(table))
    axes, shown = figure.add_subplot(), table.iloc[::-1]
    for (name, (meaning, colour)), shift in zip(MEASURES.items(), (0.2, -0.2), strict=True):
        axes.barh([place + shift for place in range(len(shown))], shown[name], 0.38, color=colour, label=meaning)
    axes.set_yticks(range(len(shown)), shown["name"])
    axes.set(xlabel="share of the importance")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.legend(frameon=False, loc="lower right")
    return figure
