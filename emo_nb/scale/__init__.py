"""More texts than fit in memory: files of any size, read and predicted in parts, here or on a Ray cluster."""

from .files import predict_file
from .ray_data import predict_dataset, predict_on_ray

__all__ = ["predict_dataset", "predict_file", "predict_on_ray"]
