"""Sessions of onnxruntime, without Keras."""

import os


def cpu_session(file):
    """Opens an ONNX file in onnxruntime, on the CPU.

    Args:
        file: path, or the file's content as bytes: weights in further files
            are then not read.

    Returns:
        `onnxruntime.InferenceSession`.

    Raises:
        ImportError: onnxruntime is missing.
        Exception: onnxruntime refuses the file; its own errors have no common
            base.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if isinstance(file, bytes):
        # Further files are looked for in a folder that holds none.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", os.devnull
        )
    else:
        file = os.fspath(file)
    return onnxruntime.InferenceSession(
        file, options, providers=["CPUExecutionProvider"]
    )
