"""What runs compiled code: devices, the C ABI and its worker, the compiled graph as a program, aten fallback."""
