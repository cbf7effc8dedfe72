"""The whole ensemble as one graph, preprocessing and views included, for programs without this one.

A graph takes uint8 RGB images (batch, S, S, 3) with any batch, and gives float32 probabilities (batch, classes). Where
members differ in their image size there is one input for each size, ascending. An image passes through a member with
all its views at once, so that a batch needs memory for batch x views images.

`ensemble.onnx` says of itself, as JSON in its metadata, what its classes are. With onnxruntime, numpy and pillow:

    session = onnxruntime.InferenceSession("ensemble.onnx")
    (images,), classes = session.get_inputs(), json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    image = ImageOps.fit(Image.open("image.png").convert("RGB"), images.shape[1:3], Image.Resampling.BICUBIC)
    [probabilities] = session.run(None, {images.name: numpy.stack([image])})
    print(classes[probabilities[0].argmax()]["words"], probabilities[0].max())

`ensemble.pt2` is for `torch.export.load("ensemble.pt2").module()`, and holds the same metadata in an extra file.
"""

import importlib.util
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainable.errors import UsageError, UserError

if TYPE_CHECKING:
    import numpy as np
    from torch.export import ExportedProgram

    from analysis.ensemble import Ensemble
    from analysis.modules import EnsembleModule
    from trainable.data.dataset import Dataset

    Batch = Sequence[np.ndarray]
    """uint8 (batch, S, S, 3) for each image size S, ascending."""

FORMATS: Final = {"onnx": "ensemble.onnx", "pt2": "ensemble.pt2"}
"""Files in the export's folder, by the name of their format."""
NEEDED: Final = {"onnx": ("onnx", "onnxruntime", "onnxscript"), "pt2": ()}
"""Packages beside torch that a format is written and checked with."""
METADATA: Final = "metadata.json"
"""Name of the extra file in a .pt2."""

CHECKED_IMAGES = 64
BATCH_ENDS = (1, 8, 24, 40, 56)
"""Where the checked images are cut into batches: of 1, 7, 16 and 8, so that the batch is seen to be free."""
LARGEST_DIFFERENCE = 1e-4
"""Of a probability in 0..1, between the graph and the ensemble."""
LARGEST_ONNX_BYTES = 2**31 - 2**26
"""Of the weights in an .onnx file, which ends at 2 GiB (Protocol Buffers), with room for the graph."""

WITHOUT = "leave it out: the ensemble itself can be exported without"


def check_formats(formats: Sequence[str]) -> None:
    """UsageError for a format that is unknown, UserError where what it needs isn't installed. Imports nothing."""
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"--format {name}: unknown; known are {', '.join(FORMATS)}")
        if missing := [package for package in NEEDED[name] if importlib.util.find_spec(package) is None]:
            raise UserError(
                f"--format {name}: {', '.join(missing)} not installed; pip install 'tune-to-ensemble[{name}]', "
                f"or {WITHOUT}"
            )


def write_formats(
    ensemble: "Ensemble", dataset: "Dataset", folder: Path, formats: Sequence[str], experiment: str = ""
) -> tuple[str, ...]:
    """Write the graphs and check each against the ensemble on images of `select`; returns a line on each.

    UserError where a format can't hold the ensemble, or predicts otherwise; as `check_formats` too.
    """
    check_formats(formats)
    if not formats:
        return ()
    module = deepcopy(ensemble.module).cpu()  # a graph that was traced on a GPU would run on nothing else
    if "onnx" in formats:
        check_onnx_size(module)
    rows = checked_rows(dataset)
    batches = cut(images_at(dataset, rows, ensemble.sizes))
    expected = joined(module_predict(module), batches)
    with failures_explained(" and ".join(formats)):
        program = trace(module, ensemble.sizes)
    facts = metadata(ensemble, dataset, experiment)
    ways = {"onnx": (write_onnx, onnx_predict), "pt2": (write_pt2, pt2_predict)}
    notes = []
    for name in dict.fromkeys(formats):
        path = folder / FORMATS[name]
        write, predict_with = ways[name]
        with failures_explained(name):
            write(program, path, facts)
            found = joined(predict_with(path), batches)
        difference = check_equal(name, found, expected, dataset, rows)
        notes.append(
            f"{name}: {path.name} of {path.stat().st_size / 1e6:.1f} MB gives the ensemble's probabilities "
            f"up to {difference:.1e} on {len(rows)} images of select"
        )
    return tuple(notes)


def check_onnx_size(module: "EnsembleModule") -> None:
    """UserError where the weights don't fit into one .onnx file; several files would have to stay together."""
    size = sum(each.nbytes for each in module.state_dict().values())
    if size > LARGEST_ONNX_BYTES:
        raise UserError(
            f"--format onnx: the members' weights take {size / 1e9:.2f} GB in single precision, and an .onnx file "
            f"holds {LARGEST_ONNX_BYTES / 1e9:.2f} GB; give fewer --members, take --format pt2, or {WITHOUT}"
        )


def checked_rows(dataset: "Dataset") -> "np.ndarray":
    """Rows of up to 64 images of `select`, from all over it, so that most classes are among them."""
    import numpy as np

    select = dataset.splits.select
    return select[np.unique(np.linspace(0, len(select) - 1, CHECKED_IMAGES).round().astype(int))]


def images_at(dataset: "Dataset", rows: "np.ndarray", sizes: Sequence[int]) -> "Batch":
    """The images of `rows` at each size; at other sizes than the data set's own, resized from that."""
    import numpy as np
    from PIL import Image

    own = dataset.cache.images[rows]

    def resized(size: int) -> "np.ndarray":
        enlarged = (Image.fromarray(each).resize((size, size), Image.Resampling.BICUBIC) for each in own)
        return np.stack([np.asarray(each) for each in enlarged])

    return [own if size == dataset.image_size else resized(size) for size in sizes]


def cut(images: "Batch") -> list["Batch"]:
    """The same images in batches of different sizes, of 1 and more."""
    import numpy as np

    parts = [np.split(each, BATCH_ENDS) for each in images]
    return [batch for batch in zip(*parts, strict=True) if len(batch[0])]


def joined(predict: Callable[["Batch"], "np.ndarray"], batches: Sequence["Batch"]) -> "np.ndarray":
    """Probabilities (images, classes) of all batches."""
    import numpy as np

    return np.concatenate([predict(batch) for batch in batches])


def module_predict(module: Any) -> Callable[["Batch"], "np.ndarray"]:
    """How a torch module on the CPU predicts a batch."""
    import torch

    def predict(batch: "Batch") -> "np.ndarray":
        with torch.inference_mode():
            return module(*(torch.tensor(images) for images in batch)).numpy()

    return predict


def trace(module: "EnsembleModule", sizes: Sequence[int]) -> "ExportedProgram":
    """The graph with a free batch, from a module on the CPU, whose weights become contiguous."""
    import torch

    module.to(memory_format=torch.contiguous_format)  # torch can't write others without a warning
    blank = tuple(torch.zeros(2, size, size, 3, dtype=torch.uint8) for size in sizes)  # .pt2 files hold their example
    free = torch.export.Dim("batch")
    said = io.StringIO()  # where it fails, torch prints the graph so far, which doesn't help a user
    with redirect_stderr(said):
        program = torch.export.export(module, blank, dynamic_shapes={"images": tuple({0: free} for _ in sizes)})
    print(said.getvalue(), end="", file=sys.stderr)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine, which would be written into the files
    return program


def metadata(ensemble: "Ensemble", dataset: "Dataset", experiment: str) -> dict[str, Any]:
    """What a program with nothing but the graph's file needs, or wants, to know."""
    from analysis.manifest import SCHEMA_VERSION
    from trainable.versions import library_versions

    members = [
        {"trial": each.trial, "arch": each.config["arch"], "image_size": each.image_size, "weight": weight}
        | {"temperature": each.temperature, "source": each.source}
        for each, weight in zip(ensemble.members, ensemble.weights, strict=True)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment": experiment,
        "classes": [{"id": each.id, "words": each.words} for each in ensemble.classes],
        "image_sizes": ensemble.sizes,
        "members": members,
        "temperature": ensemble.temperature,
        "views": ensemble.views,
        "dataset": dataset.cache.fingerprint,
        "versions": library_versions(),
    }


def write_onnx(program: "ExportedProgram", path: Path, facts: dict[str, Any]) -> None:
    """Write one .onnx file, with `facts` as its metadata, each value as JSON."""
    import torch

    sizes = facts["image_sizes"]
    names = ["images"] if len(sizes) == 1 else [f"images_{size}" for size in sizes]
    named_batch = {"images": ({0: "batch"}, *({} for _ in sizes[1:]))}  # all others follow the first
    graph = torch.onnx.export(
        program, input_names=names, output_names=["probabilities"], dynamic_shapes=named_batch, verbose=False
    )
    assert graph is not None
    graph.model.metadata_props.update({name: json.dumps(value) for name, value in facts.items()})
    graph.save(path, external_data=False)


def onnx_predict(path: Path) -> Callable[["Batch"], "np.ndarray"]:
    """How onnxruntime predicts a batch on the CPU."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return lambda batch: session.run(None, dict(zip(names, batch, strict=True)))[0]


def write_pt2(program: "ExportedProgram", path: Path, facts: dict[str, Any]) -> None:
    """Write one .pt2 file, with `facts` as JSON in an extra file of it."""
    import torch

    torch.export.save(program, path, extra_files={METADATA: json.dumps(facts)})


def pt2_predict(path: Path) -> Callable[["Batch"], "np.ndarray"]:
    """How the file's module predicts a batch."""
    import torch

    return module_predict(torch.export.load(path).module())


def check_equal(
    name: str, found: "np.ndarray", expected: "np.ndarray", dataset: "Dataset", rows: "np.ndarray"
) -> float:
    """The largest difference of probabilities (rows, classes); UserError, with its image and class, if it matters."""
    import numpy as np

    differences = np.abs(found - expected)
    row, label = np.unravel_index(differences.argmax(), differences.shape)  # NaN counts as the largest
    if not differences[row, label] <= LARGEST_DIFFERENCE:
        raise UserError(
            f"--format {name}: the graph predicts otherwise than the ensemble: {found[row, label]:.6f} instead of "
            f"{expected[row, label]:.6f} for class {dataset.classes[label].id} of {dataset.cache.names[rows[row]]} "
            f"(at most {LARGEST_DIFFERENCE:.0e} apart); {WITHOUT}"
        )
    return float(differences[row, label])


@contextmanager
def failures_explained(name: str) -> Iterator[None]:
    """Makes one line of whatever torch or a format's library raises, without torch's own warning before it."""
    shapes = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = shapes.level
    shapes.setLevel(logging.ERROR)
    try:
        yield
    except Exception as error:  # an operation that can't be exported raises nearly everything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"--format {name}: can't be written ({type(error).__name__}: {reason}); {WITHOUT}") from error
    finally:
        shapes.setLevel(level)
