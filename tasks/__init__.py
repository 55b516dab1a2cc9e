"""How each effect is measured and undone: a file is a kernel and its step."""

from tasks import kernels

kernels.settle()
