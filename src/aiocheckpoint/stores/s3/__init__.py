"""Checkpoints in a bucket of Amazon S3, or of a server that speaks its protocol.

Needs the extra `aiocheckpoint[s3]`.
"""

from aiocheckpoint.stores.s3.store import S3Store

__all__ = ("S3Store",)
