"""The official client against the hub of the tests: python official_client.py PATH_OF_THE_HUB_PROGRAM"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

program = sys.argv[1]
fixture = pathlib.Path(__file__).parent.parent / "fixtures" / "micro" / "olmoe-sharded"
work = pathlib.Path(tempfile.mkdtemp())
models = work / "models"
shutil.copytree(fixture, models / "a" / "olmoe")
hub = subprocess.Popen([program, models], stdout=subprocess.PIPE, text=True)
os.environ["HF_ENDPOINT"] = hub.stdout.readline().strip()
os.environ["HF_HOME"] = str(work / "home")

from huggingface_hub import HfApi, hf_hub_download, snapshot_download  # noqa: E402  (reads the variables)
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError  # noqa: E402


def raises(error, call):
    try:
        call()
    except error:
        return
    raise AssertionError(f"expected {error.__name__}")


try:
    path = pathlib.Path(snapshot_download("a/olmoe"))
    names = sorted(p.name for p in fixture.iterdir())
    assert sorted(p.name for p in path.iterdir()) == names, sorted(path.iterdir())
    for name in names:
        assert (path / name).read_bytes() == (fixture / name).read_bytes(), name

    tree = {f.path: f for f in HfApi().list_repo_tree("a/olmoe")}
    shard = tree["model-00001-of-00003.safetensors"]
    assert shard.lfs.sha256 == os.path.basename(os.path.realpath(path / shard.path)), shard

    raises(RepositoryNotFoundError, lambda: snapshot_download("a/nothing"))
    raises(RevisionNotFoundError, lambda: snapshot_download("a/olmoe", revision="elsewhere"))
    raises(EntryNotFoundError, lambda: hf_hub_download("a/olmoe", "nothing.json"))
    print(f"huggingface_hub took {len(names)} files and three refusals")
finally:
    hub.terminate()
    hub.wait()
    shutil.rmtree(work)
