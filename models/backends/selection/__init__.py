"""What runs a `.pt` file on a CPU: the fastest backend and precision, timed on this machine and remembered.

`auto.load_fastest` is the entry. Runtimes other than torch run an ONNX file that is exported once (`export_cache`).
"""
