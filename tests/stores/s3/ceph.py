"""
Ceph's gateway in processes of its own, from Debian's packages, without root.

A monitor, a disk server and the gateway, each of which can be killed and started again.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import botocore.session

from tests.servers import NOBODY, server_command

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph-authtool", "monmaptool")
_PATIENCE_SECONDS = 60.0
_CONFIG = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}/0]
ms bind msgr1 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 1000
osd crush chooseleaf type = 0
auth supported = cephx
run dir = {dir}/run
admin socket = {dir}/run/$name.asok
log file = {dir}/$name.log
crash dir = {dir}/run
heartbeat file =
keyring = {dir}/keyring
mon data = {dir}/mon
mon cluster log file = {dir}/cluster.log
osd data = {dir}/osd
osd objectstore = {object_store}
memstore device bytes = 1073741824
bluestore block size = 2147483648
bluestore block create = true
paxos propose interval = 0.01
paxos min wait = 0.01
mon data avail warn = 2
rgw data = {dir}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw dns name = localhost
"""


def missing_programs() -> list[str]:
    """Return which of the programs are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class Ceph:
    """
    A gateway with one bucket, `bucket`, for the key `tkey` and the secret `tsecret`.

    Args:
        object_store: `"memstore"`, which forgets, or `"bluestore"`, which is durable.
    """

    def __init__(self, object_store: str = "memstore") -> None:
        self._dir = Path(tempfile.mkdtemp(prefix="ceph-"))
        self._config = self._dir / "ceph.conf"
        self._as_nobody = os.geteuid() == 0
        port, mon_port = _free_port(), _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        for name in ("mon", "osd", "rgw", "run"):
            (self._dir / name).mkdir()
        self._config.write_text(
            _CONFIG.format(
                fsid=uuid.uuid4(),
                dir=self._dir,
                port=port,
                mon_port=mon_port,
                object_store=object_store,
            )
        )
        if self._as_nobody:
            for path in (self._dir, *self._dir.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        self._mon_port = mon_port
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    # For tests

    def start(self) -> Ceph:
        try:
            self._make_keys()
            self._begin("mon")
            self._make_disk()
            self._begin("osd")
            self._wait_for("osd stat -f json", '"num_up_osds":1')
            self._run("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=here")
            self._begin("rgw")
            self._run(
                "radosgw-admin", "user", "create", "--uid=t", "--display-name=t",
                "--access-key=tkey", "--secret-key=tsecret",
            )  # fmt: skip
            self._wait_for_port()
            self._client().create_bucket(Bucket="bucket")
        except BaseException:
            self.stop()
            raise
        return self

    def kill(self) -> None:
        """Kill everything, as `kill -9` does."""
        for process in self._processes.values():
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def start_again(self) -> None:
        """Start what was killed."""
        for name in ("mon", "osd", "rgw"):
            self._begin(name)
        self._wait_for("osd stat -f json", '"num_up_osds":1')
        self._wait_for_port()

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self._dir, ignore_errors=True)

    def keys(self, part: str = "") -> list[str]:
        pages = self._client().get_paginator("list_objects_v2").paginate(Bucket="bucket")
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return sorted(key for key in keys if part in key)

    def read(self, key: str) -> bytes:
        data: bytes = self._client().get_object(Bucket="bucket", Key=key)["Body"].read()
        return data

    def make_bucket(self, name: str) -> None:
        self._client().create_bucket(Bucket=name)

    def keep_versions(self, bucket: str, status: str) -> None:
        """Set the versioning of a bucket, `"Enabled"` or `"Suspended"`."""
        versioning = {"Status": status}
        self._client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioning)

    def write(self, key: str, data: bytes) -> None:
        self._client().put_object(Bucket="bucket", Key=key, Body=data)

    # The processes

    def _client(self) -> Any:
        session = botocore.session.Session()
        session.set_credentials("tkey", "tsecret")
        return session.create_client("s3", endpoint_url=self.url, region_name="us-east-1")

    def _command(self, *command: str) -> list[str]:
        return server_command(*command, as_nobody=self._as_nobody)

    def _run(self, *command: str, check: bool = True) -> str:
        ran = subprocess.run(
            self._command(*command),
            env={**os.environ, "CEPH_CONF": str(self._config)},
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
        if check and ran.returncode:
            raise RuntimeError(f"{command}: {ran.stdout}{ran.stderr}")
        return ran.stdout

    def _begin(self, name: str) -> None:
        command = {
            "mon": ("ceph-mon", "-i", "a", "-f"),
            "osd": ("ceph-osd", "-i", "0", "-f"),
            "rgw": ("radosgw", "-n", "client.rgw.a", "-f"),
        }[name]
        with (self._dir / f"{name}.out").open("ab") as output:
            self._processes[name] = subprocess.Popen(
                self._command(*command, "-c", str(self._config)), stdout=output, stderr=output
            )

    def _make_keys(self) -> None:
        keyring = f"{self._dir}/keyring"
        everything = ("--cap", "osd", "allow *")
        self._run(
            "ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.",
            "--cap", "mon", "allow *",
        )  # fmt: skip
        for name in ("client.admin", "client.rgw.a", "osd.0"):
            self._run(
                "ceph-authtool", keyring, "--gen-key", "-n", name, "--cap", "mon", "allow *",
                *everything, *(() if name == "osd.0" else ("--cap", "mgr", "allow *")),
            )  # fmt: skip
        monmap = f"{self._dir}/monmap"
        fsid = self._config.read_text().split("fsid = ")[1].split()[0]
        address = f"[v2:127.0.0.1:{self._mon_port}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)

    def _make_disk(self) -> None:
        disk = str(uuid.uuid4())
        self._wait_for("mon stat", "quorum")
        self._run("ceph", "--connect-timeout", "20", "osd", "new", disk)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)

    def _wait_for(self, question: str, answer: str) -> None:
        end = time.monotonic() + _PATIENCE_SECONDS
        while answer not in self._run("ceph", *question.split(), check=False):
            if time.monotonic() > end:
                raise TimeoutError(question)
            time.sleep(0.1)

    def _wait_for_port(self) -> None:
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
