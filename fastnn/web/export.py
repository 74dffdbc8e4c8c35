"""The drawing page as one file that needs no server: styles, scripts, network and all."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files

import numpy as np

from fastnn.errors import DataError
from fastnn.images import SIDE
from fastnn.model.model import Model

_SCRIPTS = ("digit.js", "net.js", "page.js")


def page(model: Model, name: str) -> str:
    """HTML that runs a model in the browser; nothing leaves it, and nothing is fetched.

    Parameters
    ----------
    model : Model
        Of classes, on pictures of 28x28 pixels.
    name : str
        Shown as its name.

    Raises
    ------
    DataError
        When the model takes something else.
    """
    if model.network.inputs != SIDE**2 or model.loss != "softmax":
        raise DataError(f"{name}: not a model of classes on pictures of 28x28 pixels, which a drawing page needs")
    scripts, style = [_asset(script) for script in _SCRIPTS], _asset("page.css")
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; style-src {_hash(style)}; "
        f"img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    tensors = b"".join(np.ascontiguousarray(tensor, "<f4").tobytes() for tensor in model.parameters)
    description = {
        "name": name,
        "classes": list(model.classes),
        "layers": [[layer.inputs, layer.units, layer.activation] for layer in model.network.layers],
        "temperature": model.temperature,
        "unsure_below": model.unsure_below,
        "scaling": [(part * model.scale).tolist() for part in model.scaling] if model.scaling else None,  # of 0 to 1
        "sha256": model.sha256,
    }
    text = _asset("page.html")
    text = re.sub(r'<link rel="stylesheet"[^>]*>\n|<script [^>]*></script>\n', "", text)
    text = re.sub(r'  <div role="tablist".*?</div>\n', "", text, flags=re.DOTALL)
    text = re.sub(r'  <section id="train".*?</section>\n', "", text, flags=re.DOTALL)
    text = text.replace(' role="tabpanel" aria-labelledby="tab-draw"', "")
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{style}</style>\n</head>'
    data = "".join(
        f'<script type="application/octet-stream" id="{key}">{value}</script>\n'
        for key, value in (("description", _json(description)), ("weights", base64.b64encode(tensors).decode()))
    )
    code = "".join(f"<script>{script}</script>\n" for script in scripts)
    return text.replace("</head>", head).replace("</body>", f"{data}{code}</body>")


def _asset(name: str) -> str:
    return files("fastnn.web").joinpath(name).read_text("utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _json(content: object) -> str:
    """JSON that can't end the element it stands in."""
    return json.dumps(content).replace("<", "\\u003c")
