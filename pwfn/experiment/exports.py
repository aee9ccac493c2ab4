"""The fixed network of a run in the formats of others, beside ``model.pwfn``."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING

from pwfn.artifact import codes, coreml, export, openvino
from pwfn.model.network import read_weights
from pwfn.rundir.files import write_json
from pwfn.scope import names_in_scope

if TYPE_CHECKING:
    from pwfn.experiment.results import Measurement

__all__ = ["AGAIN", "EXPORTS", "write_exports"]

log = logging.getLogger(__name__)

AGAIN = "delete it and the run's summary.json, and start the run again, which goes on from its last checkpoint"
"""What to do where a weight file of a run is damaged."""

EXPORTS = {
    "onnx": "model.onnx",
    "openvino": "model.xml",
    "coreml": "model.mlpackage",
    "shift_list": "shifts.json",
    "codes": "codes.safetensors",
}
"""The file of each export."""


def write_exports(measurement: Measurement) -> None:
    """Write the exports that are asked for, beside ``model.pwfn``; graphs are traced with one test image.

    What a converter refuses is said in one sentence, and the other files are written.
    """
    folder, wanted = measurement.folder, measurement.exports
    names = names_in_scope(measurement.model, measurement.scope)
    state = read_weights(folder / "model.safetensors", advice=AGAIN)
    graphs = {"onnx": export.onnx, "openvino": openvino.save, "coreml": coreml.save}
    for kind, write in graphs.items():
        if not wanted.get(kind):
            continue
        model = copy.deepcopy(measurement.model).cpu().eval()
        model.load_state_dict(state)
        example = next(iter(measurement.data.test_dataloader()))[0][:1]
        try:
            write(model, folder / EXPORTS[kind], example, names)
        except ValueError as error:  # the run is finished all the same
            log.error("export.%s=true: no %s, since %s", kind, EXPORTS[kind], error)
    if wanted.get("shift_list"):
        write_json(folder / EXPORTS["shift_list"], export.shift_list(state, names))
    if wanted.get("codes"):
        codes.write(folder / EXPORTS["codes"], state, names, architecture=measurement.architecture)
