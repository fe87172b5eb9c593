"""Checkpoints in a bucket of Amazon S3, or of a server that speaks its protocol.

Needs the extra `s3`.
"""

from importlib.util import find_spec

from aiocheckpoint.stores.s3.store import S3Store

__all__ = ("S3Store",)

if find_spec("aiobotocore") is None:  # which is not imported before the first call: it takes long
    raise ModuleNotFoundError("No module named 'aiobotocore'", name="aiobotocore")
