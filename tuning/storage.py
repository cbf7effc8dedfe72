"""An experiment's folder: made once, read back on resume, and kept small while the search runs."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from trainable.errors import UsageError, UserError
from trainable.files import write_text
from tuning.plan import SearchPlan

if TYPE_CHECKING:
    from trainable.address import Place

EXPERIMENT = "experiment.json"
RESULTS = "result.json"


def prepare_output(plan: SearchPlan) -> None:
    """Make the folder of experiments; UsageError where it can't be written or holds one of that name."""
    try:
        plan.output.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"--output {plan.output}: is a file; give a folder") from None
    except OSError as error:
        raise UsageError(f"--output {plan.output}: can't be written ({error.strerror}); give another folder") from None
    if plan.folder.is_file() or any(not path.name.startswith(".") for path in plan.folder.glob("*")):
        raise UsageError(
            f"--name {plan.name}: {plan.folder} exists; go on with it by --resume {plan.name}, or give another name"
        )


def create_experiment(plan: SearchPlan, facts: dict[str, Any]) -> None:
    """Make the folder and write experiment.json: the plan, and `facts` about data, code and machine."""
    prepare_output(plan)
    try:
        plan.folder.mkdir(exist_ok=True)  # one that was killed before experiment.json was written left it empty
        identity = {"id": uuid.uuid4().hex[:8], "plan": plan.model_dump(mode="json")}
        write_text(plan.folder / EXPERIMENT, json.dumps(identity | facts, indent=1))
    except OSError as error:
        raise UsageError(f"--output {plan.output}: can't be written ({error.strerror}); give another folder") from None


def find_experiment(name: str, output: Path) -> Path:
    """The folder of an experiment given by its name below `output` or by its path."""
    for folder in (output / name, Path(name)):
        if (folder / EXPERIMENT).is_file():
            return folder.resolve()
    there = sorted(path.parent.name for path in output.glob(f"*/{EXPERIMENT}"))
    hint = f"there are {', '.join(there[-5:])}" if there else "there is none yet"
    raise UsageError(f"--resume {name}: no experiment of that name in {output}; {hint}")


def read_experiment(folder: Path) -> SearchPlan:
    """The plan of an experiment; it follows the folder where that was moved."""
    path = folder / EXPERIMENT
    try:
        values = json.loads(path.read_text())["plan"] | {"name": folder.name, "output": folder.parent}
        return SearchPlan.model_validate(values)
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: can't be read ({reason}); start a new search with another --name") from None


def experiment_id(folder: Path) -> str:
    """What tells the trials of this experiment from those of others, also of one that had the same name."""
    return str(json.loads((folder / EXPERIMENT).read_text()).get("id", folder.name))


def experiment_images(folder: Path) -> str:
    """The fingerprint of the images that all trials of this experiment train on."""
    return str(json.loads((folder / EXPERIMENT).read_text())["dataset"])


def note_resumption(plan: SearchPlan, facts: dict[str, Any]) -> list[str]:
    """Put a changed plan and what runs it now into experiment.json; returns what changed since the last time, in words.

    Raises:
        UserError: The images are others: results wouldn't compare.
    """
    path = plan.folder / EXPERIMENT
    content = json.loads(path.read_text())
    _check_images(plan, content["dataset"], facts["dataset"])
    past = [content, *content.get("resumed", [])][-1]
    told = {name: facts[name] for name in ("command", "git_commit", "versions") if name in facts}
    content |= {"plan": plan.model_dump(mode="json"), "resumed": [*content.get("resumed", []), told]}
    write_text(path, json.dumps(content, indent=1))
    before, now = ({"code": each.get("git_commit"), **each.get("versions", {})} for each in (past, facts))
    return [f"{name} {before[name]} -> {now[name]}" for name in before if name in now and before[name] != now[name]]


def _check_images(plan: SearchPlan, before: str, now: str) -> None:
    if before != now:
        raise UserError(
            f"--resume {plan.name}: the images in {plan.trial['data']} have changed since it began "
            f"(fingerprint {before[:12]}, now {now[:12]}); restore them, or start a new search"
        )


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The epoch records of all trials in the order of their time, each with its `trial_name`; a half-written line
    is left out."""
    files = sorted(folder.glob(f"*/{RESULTS}"))
    records = [record | {"trial_name": path.parent.name} for path in files for record in read_lines(path)]
    return sorted(records, key=lambda record: record["timestamp"])


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects in a file, one a line; broken lines are left out, and there are none where there is no file."""
    text = path.read_text(errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def cut_half_line(path: Path) -> None:
    """Drop the line that a killed process was writing: the next one would stand behind it."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


def code_facts() -> dict[str, Any]:
    """The command, and the commit of the code where it is a git checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        commit = answer.stdout.strip() or None
    except OSError:
        commit = None
    return {"command": [Path(sys.argv[0]).name, *sys.argv[1:]], "git_commit": commit}


def weights_to_keep(scores: dict[str, tuple[float, str]], keep: int) -> set[str]:
    """Which ended trials keep their weights, of `scores` (trial -> top-1, architecture): the best `keep`, at least one
    of each architecture, the earlier where scores are equal."""
    ranked = sorted(scores, key=lambda trial: -scores[trial][0])
    best_of_each: dict[str, str] = {}
    for trial in ranked:
        best_of_each.setdefault(scores[trial][1], trial)
    return set(ranked[:keep]) | set(best_of_each.values())


def prune_weights(checkpoints: Iterable["Place"], names: Iterable[str]) -> int:
    """Delete the files `names` in each checkpoint folder, keeping predictions and records; returns the bytes freed."""
    freed = 0
    for path in (folder / name for folder in checkpoints for name in names):
        if path.exists():
            freed += path.stat().st_size
            path.unlink()
    return freed
