"""Names of the arithmetic a model's graphs come in.

fp32             as trained
fp16             half precision inside, float32 in and out
int8             activations uint8 with a zero point, weights int8: what CPUs are quick at
int8-symmetric   both int8 around zero: what TensorRT takes
"""

from __future__ import annotations

FP32, FP16, INT8, INT8_SYMMETRIC = "fp32", "fp16", "int8", "int8-symmetric"

PRECISIONS = (FP32, FP16, INT8, INT8_SYMMETRIC)
"""In the order a model folder lists them."""
