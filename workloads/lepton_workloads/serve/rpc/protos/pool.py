"""The pool of these messages: TensorFlow's own have the same names, and may be in the same process."""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
