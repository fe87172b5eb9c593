"""The store in a bucket: on a server made for it, and on Ceph's gateway where that is there."""
