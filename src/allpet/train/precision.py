from allpet.precision import PRECISIONS, autocast, native_bf16, resolve

__all__ = ["PRECISIONS", "autocast", "native_bf16", "resolve"]
