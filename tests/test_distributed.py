"""The script of the manual trains on two processes: ranks draw independently, agree on weights, and can be repeated."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parent.parent / "notebooks/several-processes-and-machines.md"
# twice in the same processes, since they take longer to import torch than to train
TWICE = """
import os, sys, train_ddp
for port in sys.argv[2:]:
    os.environ["MASTER_PORT"] = port
    train_ddp.spawned(int(sys.argv[1]), 2)
"""

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")


def free_ports(count):
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(each.getsockname()[1]) for each in listening]
    for each in listening:
        each.close()
    return ports


def test_ranks_draw_independently_agree_and_can_be_repeated(tmp_path):
    (code,) = re.findall(r'^```python title="train_ddp.py"\n(.*?)^```', PAGE.read_text(), re.M | re.S)
    (tmp_path / "train_ddp.py").write_text(code)
    own = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ports = free_ports(2)
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", TWICE, str(rank), *ports],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | own,
        )
        for rank in (0, 1)
    ]
    said = []
    try:
        for each in ranks:
            printed, errors = each.communicate(timeout=150)
            assert each.returncode == 0, errors
            said.append(printed)
    finally:
        for each in ranks:
            each.kill()
    losses = [re.findall(rf"^rank {rank} step \d loss (\S+)$", text, re.M) for rank, text in enumerate(said)]
    ends = [re.findall(rf"^rank {rank} of 2 weights (\S+) draw (.*)$", text, re.M) for rank, text in enumerate(said)]
    for lines, last in zip(losses, ends, strict=True):
        assert len(lines) == 10 and lines[:5] == lines[5:]
        assert len(last) == 2 and last[0] == last[1]
    assert losses[0] != losses[1]
    (weights, draw), (other_weights, other_draw) = ends[0][0], ends[1][0]
    assert weights == other_weights
    assert draw != other_draw  # equal seeds, equal clip, equal params: only the signs differ
