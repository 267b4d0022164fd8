"""The tutorials' local chat-completions endpoint, for tests."""

import importlib.util

from tests.helpers.documents import ROOT

_spec = importlib.util.spec_from_file_location(
    "chat_endpoint", ROOT / "tutorials" / "data" / "chat_endpoint.py"
)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
ChatEndpoint = _module.ChatEndpoint
