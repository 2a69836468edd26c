"""Sources of pictures for the store, each read as what it is; and the engines, killed and resumed (`-m engines`)."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from small_model import make_model, make_processor

import helpers
from helpers.encode import Options, into_store, list_items
from helpers.encode.__main__ import parser
from helpers.encode.sources import dicom_pixels, read
from helpers.store import Store

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tiny():
    return make_model(), make_processor()


def picture(seed: int, size=(24, 20)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, "PNG")
    return buffer.getvalue()


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one.float(), other.float(), atol=1e-3, rtol=1e-3)


def make_tar(path: Path, count: int = 4) -> None:
    """A WebDataset shard: samples of one picture, a class and a JSON."""
    with tarfile.open(path, "w") as tar:
        for k in range(count):
            more = {"patient": f"p{k}", "boxes": [1, 2]}
            for ending, data in (("png", png(k)), ("cls", str(k % 2).encode()), ("json", json.dumps(more).encode())):
                info = tarfile.TarInfo(f"train/{k:04}.{ending}")
                info.size, info.mtime = len(data), 1_700_000_000
                tar.addfile(info, io.BytesIO(data))


# --- folders, lists, tables -------------------------------------------------------------------------------------------


def test_a_folder_a_list_and_a_table_give_the_same_items(tmp_path):
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for k, name in enumerate(("a.png", "below/b.jpg", ".hidden.png")):
        picture(k).save(folder / name)
    (folder / "notes.md").write_text("no picture")
    names = ["a.png", "below/b.jpg"]
    items = list_items(folder)
    assert [item.path for item in items] == [(folder / name).as_posix() for name in names]
    (folder / "list.txt").write_text("\n".join(names))
    pd.DataFrame({"file": names, "label": ["x", None]}).to_csv(folder / "table.csv", index=False)
    assert [i.path for i in list_items(folder / "list.txt")] == [i.path for i in items]
    table = list_items(folder / "table.csv")
    assert [i.path for i in table] == [i.path for i in items]
    assert [dict(i.labels) for i in table] == [{"label": "x"}, {"label": None}]
    assert [i.path for i in list_items(folder, root=tmp_path)] == ["photos/a.png", "photos/below/b.jpg"]


def test_sources_that_are_none(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("name,label\na.png,1\n")
    (tmp_path / "twice.txt").write_text("a.png\na.png\n")
    (tmp_path / "broken.tar").write_bytes(b"no tar")
    for source, named in (
        ("empty", "empty"),
        ("not there", "not there"),
        ("table.csv", r"table\.csv"),
        ("twice.txt", r"twice\.txt.*a\.png"),
    ):
        with pytest.raises(ValueError, match=named):
            list_items(tmp_path / source)
    with pytest.raises(ValueError, match=r"broken\.tar"):
        list_items(tmp_path / "broken.tar")
    with pytest.raises(ValueError, match=r"a\.png.*empty"):
        list_items([tmp_path / "a.png"], root=tmp_path / "empty")


def test_tables_and_lists_are_read_as_text(tmp_path):
    """pandas made numbers of patients, NaN of "None", and of semicolons one column."""
    for k, name in enumerate("abc"):
        picture(k).save(tmp_path / f"{name}.png")
    text = "file;group;veil;label;size\na.png;007;1;NA;1,5\nb.png;;0;None;2,5\nc.png;7;;;\n"
    for data in (text.encode(), text.encode("utf-16"), b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()):
        (tmp_path / "t.csv").write_bytes(data)
        items = list_items(tmp_path / "t.csv")
        assert [Path(item.path).name for item in items] == ["a.png", "b.png", "c.png"]
        assert [tuple(item.labels.values()) for item in items] == [
            ("007", 1.0, "NA", "1,5"), (None, 0.0, "None", "2,5"), ("7", None, None, None),
        ]  # fmt: skip
    for data in ("a.png\r\nb.png\r\n".encode("utf-16"), b"\xef\xbb\xbfa.png\n\nb.png\n"):
        (tmp_path / "l.txt").write_bytes(data)
        assert [Path(item.path).name for item in list_items(tmp_path / "l.txt")] == ["a.png", "b.png"]
    for name in ("own.txt", "own.csv"):
        (tmp_path / name).write_text(f"file\n{name}\n" if name == "own.csv" else f"a.png\n{name}\n")
        with pytest.raises(ValueError, match=name):
            list_items(tmp_path / name)


def test_a_table_from_image_folder_is_a_source(tmp_path):
    for k, name in enumerate("ab"):
        picture(k).save(tmp_path / f"{name}.png")
    table = helpers.image_folder(tmp_path).assign(label=["x", np.nan])[::-1]
    items = list_items(table)
    assert [Path(item.path).name for item in items] == ["b.png", "a.png"]
    assert [dict(item.labels) for item in items] == [{"file": "b.png", "label": None}, {"file": "a.png", "label": "x"}]
    with pytest.raises(ValueError, match="path"):
        list_items(pd.DataFrame({"name": ["a.png"]}))
    with pytest.raises(ValueError, match=r"row 1\b.*'path'"):
        list_items(pd.DataFrame({"path": ["a.png", None]}))


@pytest.mark.parametrize("source", [None, 5, b"a.png", {"a.png": 1}, {"a.png"}])
def test_sources_of_another_kind(source):
    with pytest.raises(TypeError, match=f"source.*{type(source).__name__}"):
        list_items(source)


def test_every_file_of_a_folder_is_accounted_for(tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    picture(0).save(folder / "a.png")
    picture(1).save(tmp_path / "elsewhere" / "b.png")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "below" / "circle").symlink_to(folder)
    (folder / "film.mp4").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"photos.*1 × \.mp4"):
        items = list_items(folder)
    assert [Path(item.path).relative_to(folder).as_posix() for item in items] == ["a.png", "link/b.png"]
    walk = os.walk

    def forbidden(top, onerror=None, **how):
        onerror(PermissionError(13, "Permission denied", str(Path(top) / "below")))
        return walk(top, onerror=onerror, **how)

    monkeypatch.setattr(os, "walk", forbidden)
    with pytest.raises(ValueError, match="'below'"):
        list_items(folder)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"window": (5, 5)}, "window"),
        ({"window": ("a", "b")}, "window"),
        ({"batch_size": 0}, "batch_size"),
        ({"concepts": ("veil", "Veil")}, "'veil' and 'Veil'"),
        ({"concepts": ("veil", " ")}, "concepts"),
        ({"concepts": ("veil", 5)}, "concepts"),
    ],
)
def test_options_are_checked_before_the_work(options, named):
    with pytest.raises(ValueError, match=named):
        Options(**options)
    assert Options(concepts="veil").concepts == ("veil",)  # not four letters


def test_what_cannot_be_done_is_told(tiny, tmp_path):
    picture(0).save(tmp_path / "a.png")
    for rows in (0, 1.5, "5"):
        with pytest.raises(ValueError, match="rows"):
            into_store(*tiny, tmp_path / "a.png", tmp_path / "store", rows=rows)
    with pytest.raises(ValueError, match=r"a\.png"):
        into_store(*tiny, tmp_path / "a.png", tmp_path / "a.png")
    with pytest.raises(ValueError, match="reduce"):
        options = Options(concepts=("veil",))
        into_store(*tiny, tmp_path / "a.png", tmp_path / "other", options=options, reduce=lambda part: 5)
    for option in ("--rows", "--batch-size", "--workers", "--tile"):
        with pytest.raises(SystemExit):
            parser().parse_args(["a.png", "--out", "store", option, "0"])


# --- tars, buckets, DICOM, slides -------------------------------------------------------------------------------------


def test_webdataset_tars(tiny, tmp_path):
    make_tar(tmp_path / "shard.tar")
    assert into_store(*tiny, tmp_path / "shard.tar", tmp_path / "store").encoded == 4
    store = Store(tmp_path / "store")
    close(store.read().features, helpers.encode_images(*tiny, [picture(k) for k in range(4)]).features)
    table = store.to_pandas()
    assert table["cls"].tolist() == ["0", "1", "0", "1"]
    assert table["patient"].tolist() == ["p0", "p1", "p2", "p3"]
    assert "boxes" not in table
    assert into_store(*tiny, tmp_path / "shard.tar", tmp_path / "store").skipped == 4
    (tmp_path / "cut.tar").write_bytes((tmp_path / "shard.tar").read_bytes()[:700])
    with pytest.raises(ValueError, match=r"cut\.tar"):
        list_items(tmp_path / "cut.tar")


def test_a_bucket(tiny, tmp_path):
    """fsspec's file system in memory stands for s3:// and the others: the same calls."""
    system = fsspec.filesystem("memory")
    for k in range(3):
        system.pipe(f"/bucket/tiles/{k}.png", png(k))
    system.pipe("/bucket/tiles/broken.png", b"no image")
    make_tar(tmp_path / "shard.tar", 2)
    system.pipe("/bucket/tiles/shard.tar", (tmp_path / "shard.tar").read_bytes())
    done = into_store(*tiny, "memory://bucket/tiles", tmp_path / "store")
    assert (done.encoded, done.failed) == (5, 1)
    store = Store(tmp_path / "store")
    assert Path(store.failures()["path"][0]).name == "broken.png"
    three = store.read(store.rows()["path"][:3].tolist())
    close(three.features, helpers.encode_images(*tiny, [picture(k) for k in range(3)]).features)
    assert into_store(*tiny, "memory://bucket/tiles", tmp_path / "store").skipped == 5


def test_an_address_that_nothing_opens():
    with pytest.raises(ValueError, match="nosuch://x"):
        list_items("nosuch://x/y")


def dicom(path: Path | None, pixels: np.ndarray, **tags) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    file.SOPClassUID, file.SOPInstanceUID = pydicom.uid.CTImageStorage, file.file_meta.MediaStorageSOPInstanceUID
    colour = pixels.ndim == 3
    bits = pixels.dtype.itemsize * 8
    file.Rows, file.Columns = pixels.shape[:2]
    file.SamplesPerPixel, file.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        file.PlanarConfiguration = 0
    file.BitsAllocated = file.BitsStored = bits
    file.HighBit, file.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    file.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(file, name, value)
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    if path:
        path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def test_dicom_is_windowed_as_it_says():
    stored = np.arange(0, 2000, dtype=np.int16).reshape(40, 50)
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": 40, "WindowWidth": 400}
    shown = dicom_pixels(dicom(None, stored, **tags), "ct.dcm")
    units = stored.astype(float) - 1000
    expected = np.clip((units - (40 - 0.5)) / 399 + 0.5, 0, 1) * 255  # DICOM PS3.3, C.11.2.1.2.1
    np.testing.assert_allclose(shown, expected, atol=0.51)
    own = dicom_pixels(dicom(None, stored, **tags), "ct.dcm", window=(-1000, 999))
    np.testing.assert_allclose(own, (units + 1000) / 1999 * 255, atol=0.51)
    inverse = dicom_pixels(dicom(None, stored, **tags, PhotometricInterpretation="MONOCHROME1"), "x.dcm")
    assert (inverse == 255 - shown).all()
    two = dicom_pixels(dicom(None, stored, **tags | {"WindowCenter": [40, 500], "WindowWidth": [400, 10]}), "x.dcm")
    assert (two == shown).all()
    colour = np.asarray(picture(0))
    assert (dicom_pixels(dicom(None, colour), "rgb.dcm") == colour).all()
    grey = np.asarray(picture(0).convert("L"))
    assert (dicom_pixels(dicom(None, grey), "us.dcm") == grey).all()


def test_dicom_that_cannot_be_shown_is_named():
    stored = np.zeros((6, 5), np.uint16)
    with pytest.raises(ValueError, match=r"raw.dcm .*window=\(low, high\)"):
        dicom_pixels(dicom(None, stored), "raw.dcm")
    with pytest.raises(ValueError, match=r"text\.dcm"):
        dicom_pixels(b"no dicom" * 100, "text.dcm")
    with pytest.raises(ValueError, match=r"film\.dcm.*3 frames"):
        dicom_pixels(dicom(None, np.zeros((2, 5), np.uint8), NumberOfFrames=3), "film.dcm")
    report = dicom(None, np.zeros((2, 2), np.uint8))
    import pydicom

    file = pydicom.dcmread(io.BytesIO(report))
    del file.PixelData
    buffer = io.BytesIO()
    file.save_as(buffer)
    with pytest.raises(ValueError, match=r"report\.dcm"):
        dicom_pixels(buffer.getvalue(), "report.dcm")


def test_a_dicom_folder(tiny, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    stored = np.random.default_rng(0).integers(0, 2000, (40, 50)).astype(np.int16)
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": 40, "WindowWidth": 400}
    dicom(folder / "one.dcm", stored, **tags)
    dicom(folder / "I0002", stored, **tags)  # as scanners name them: without an ending
    dicom(folder / "1.2.840.113619.2.55", stored, **tags)
    dicom(folder / "no-window.dcm", stored)
    (folder / "DICOMDIR").write_bytes((folder / "one.dcm").read_bytes())
    picture(1).save(folder / "scout.png")
    done = into_store(*tiny, folder, tmp_path / "store")
    assert (done.encoded, done.failed) == (4, 1)
    done = into_store(*tiny, folder, tmp_path / "store", options=Options(window=(-1000, 1000)))
    assert (done.encoded, done.failed, done.skipped) == (1, 0, 4)
    with pytest.raises(ValueError, match="window"):
        into_store(*tiny, folder, tmp_path / "store", options=Options(window=(0, 1)))


def test_slides_are_read_by_tiles_that_hold_tissue(tiny, tmp_path):
    pytest.importorskip("openslide")
    tifffile = pytest.importorskip("tifffile")
    whole = np.full((512, 768, 3), 245, np.uint8)
    whole[0:256, 256:512] = (170, 60, 140)  # one stained tile
    whole[256:300, 0:60] = (150, 60, 150)  # a corner of another
    tifffile.imwrite(tmp_path / "slide.svs", whole, tile=(256, 256), photometric="rgb", compression=None)
    items = list_items(tmp_path / "slide.svs", tile=256)
    assert [item.place for item in items] == [(256, 0, 256)] or [item.place for item in items] == [
        (256, 0, 256),
        (0, 256, 256),
    ]
    tile, _ = read(items[0])
    assert (np.asarray(tile) == whole[0:256, 256:512]).all()
    assert into_store(*tiny, items, tmp_path / "store").encoded == len(items)
    assert into_store(*tiny, items, tmp_path / "store").skipped == len(items)


# --- engines ----------------------------------------------------------------------------------------------------------

GUARD = """
import os, sys
def told(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        where = str(args[1] if event == "socket.connect" else args[0])
        if not any(x in where for x in ("127.0.0.1", "localhost", "::1", "/")) and where not in LOCAL:
            open(os.environ["GUARD_LOG"], "a").write(f"{event} {where}\\n")
import socket
LOCAL = {socket.gethostname(), "None", ""}
sys.addaudithook(told)
"""


@pytest.fixture
def guarded(tmp_path):
    """An environment in which every Python process writes down where it connects to, and a proxy that is not there."""
    folder = tmp_path / "guard"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(GUARD)
    drop = {"DO_NOT_TRACK", "DAFT_ANALYTICS_ENABLED", "SCARF_NO_ANALYTICS", "RAY_USAGE_STATS_ENABLED"}
    environment = {k: v for k, v in os.environ.items() if k not in drop}
    environment |= {
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "GUARD_LOG": str(folder / "log"),
        "OMP_NUM_THREADS": "1",
    }
    return environment | {"HF_HUB_OFFLINE": "1"}


def tried(environment) -> str:
    log = Path(environment["GUARD_LOG"])
    return log.read_text() if log.exists() else ""


def many_photos(folder: Path, count: int) -> None:
    folder.mkdir()
    for k in range(count):
        picture(k).save(folder / f"{k:03}.png")


def start(environment, folder, store, model, *more):
    command = [sys.executable, "-m", "helpers.encode", str(folder), "--out", str(store), "--model", str(model)]
    command += ["--quiet", "--rows", "4", "--engine", "daft", "--workers", "2", *more]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def workers_of(pid: int, words: tuple[str, ...]) -> list[int]:
    """Processes below `pid` (or anywhere, for Ray) whose command line holds one of `words`."""
    import psutil

    below = psutil.Process(pid).children(recursive=True)
    return [p.pid for p in below if any(word in " ".join(p.cmdline()) for word in words)]


def check_whole(store: Path, photos: Path, model: Path) -> None:
    whole = Store(store)
    rows = pd.concat([pq.read_table(path, columns=["path"]).to_pandas() for path in whole.shards()])
    files = sorted(map(str, photos.iterdir()))
    assert sorted(rows["path"]) == files
    model, processor = helpers.load(model)
    close(whole.read(files).features, helpers.encode_images(model, processor, files).features)


@pytest.mark.engines
@pytest.mark.parametrize("address", [(), ("--address", "local")], ids=["daft", "daft on ray"])
def test_a_worker_is_killed_and_the_run_resumed(tiny_model_folder, tmp_path, guarded, address):
    pytest.importorskip("daft")
    if address:
        pytest.importorskip("ray")
    photos, store = tmp_path / "photos", tmp_path / "store"
    many_photos(photos, 160)
    run = start(guarded, photos, store, tiny_model_folder, *address)
    deadline = time.monotonic() + 400
    while len(list(store.glob("vectors*"))) < 3 and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.05)
    assert run.poll() is None, run.communicate()  # it ended before there was a worker to kill
    victims = workers_of(run.pid, ("udf_worker", "ray::"))
    assert victims, "no worker was found"
    os.kill(victims[0], signal.SIGKILL)
    said = run.communicate(timeout=400)
    left = len(Store(store))
    if run.returncode:  # a killed worker stops the run, with a clear word; the cluster may also start another
        assert "run the same command again" in said[1]
        assert 12 <= left < 160
        again = start(guarded, photos, store, tiny_model_folder, *address)
        said = again.communicate(timeout=400)
        assert again.returncode == 0, said[1]
        assert f"{160 - left} encoded, {left} there already" in said[0]
    check_whole(store, photos, tiny_model_folder)
    # Ray, its report switched off, asks where a cloud tells its machines about themselves, and talks to its own node.
    node = {one.address for found in psutil.net_if_addrs().values() for one in found}
    own = {"0.0.0.0", "169.254.169.254", "metadata.google.internal", *node}
    rays = own if address else ()
    assert [line for line in tried(guarded).splitlines() if not any(place in line for place in rays)] == []


@pytest.mark.engines
def test_the_guard_sees_what_an_engine_would_report(guarded):
    """The engine alone, without our switch: it does try. So an empty log above means something."""
    pytest.importorskip("daft")
    code = "import daft, time; time.sleep(3)"
    subprocess.run([sys.executable, "-c", code], env=guarded, check=True, timeout=120)
    assert "scarf" in tried(guarded)


FAKE = """
import atexit, os
set_runner_native = lambda: None
def cls(worker, **how):
    return lambda recipe: Maker(worker(recipe))
class Maker:
    def __init__(self, worker): self.worker = worker
    def shard(self, tasks): return self
    def alias(self, name): return self
class Frame:
    def __init__(self, columns): self.tasks = columns["task"]
    def __getitem__(self, name): return self.tasks
    def into_batches(self, n): return self
    def select(self, maker):
        self.maker = maker
        return self
    def iter_rows(self, results_buffer_size):
        print("the engine's own words")
        for k, task in enumerate(self.tasks):
            if WAY == "dies" and k == 3: os._exit(1)
            yield {"done": self.maker.worker.shard(task)}
        atexit.register(os._exit, 7)
from_pydict = Frame
"""


def test_an_engine_that_ends_its_process_is_told(tiny_model_folder, tmp_path, monkeypatch, capsys):
    """Ray ends the process that called it, without an exception, when its local server has died."""
    from helpers.encode.__main__ import main

    photos, store, engine = tmp_path / "photos", tmp_path / "store", tmp_path / "engine"
    many_photos(photos, 12)
    engine.mkdir()
    (engine / "daft.py").write_text('WAY = "dies"' + FAKE)
    path = f"{engine}{os.pathsep}{ROOT}"
    run = start(
        os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}, photos, store, tiny_model_folder, "--rows", "2"
    )
    said = run.communicate(timeout=600)
    assert run.returncode == 1
    assert len(Store(store)) == 6
    assert re.search(r"after 3 of 6 shards .*code 1.* holds 6 pictures.* run the same command again", said[1]), said[1]
    assert "Traceback" not in said[1]
    # And what goes wrong after the last shard does not make a failure of it.
    (engine / "daft.py").write_text('WAY = "shuts down badly"' + FAKE)
    monkeypatch.delitem(sys.modules, "daft", raising=False)
    monkeypatch.syspath_prepend(engine)
    arguments = [str(photos), "--out", str(store), "--model", str(tiny_model_folder), "--engine", "daft", "--quiet"]
    assert main([*arguments, "--rows", "2"]) == 0
    said = capsys.readouterr().out
    assert "6 encoded, 6 there already" in said and "the engine's own words" not in said
    check_whole(store, photos, tiny_model_folder)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("out of memory"), type("Panic", (BaseException,), {})()])
def test_whatever_stops_the_command_it_says_what_is_kept(tiny_model_folder, tmp_path, monkeypatch, capsys, error):
    from helpers.encode import Encoder, __main__

    class Stops(Encoder):
        def __call__(self, task, advance=lambda n: None):
            if task.number == 2:
                raise error
            return super().__call__(task, advance)

    photos, store = tmp_path / "photos", tmp_path / "store"
    many_photos(photos, 8)
    monkeypatch.setattr(__main__, "Encoder", Stops)
    arguments = [str(photos), "--out", str(store), "--model", str(tiny_model_folder), "--rows", "2", "--quiet"]
    assert __main__.command(arguments) == 1
    said = capsys.readouterr().err
    assert "holds 4 pictures" in said and "run the same command again" in said
    assert ("Traceback" in said) == (not isinstance(error, RuntimeError))
    monkeypatch.undo()
    assert __main__.command(arguments) == 0
    check_whole(store, photos, tiny_model_folder)


def test_without_daft_it_says_so(tiny, tmp_path, monkeypatch):
    from helpers.encode.engines import Recipe, run_daft

    monkeypatch.setitem(sys.modules, "daft", None)
    recipe = Recipe("m", None, "cpu", "auto", str(tmp_path), {}, Options())
    with pytest.raises(ImportError, match=r"\[scale\]"):
        next(run_daft([], recipe, workers=2))
    assert os.environ["DO_NOT_TRACK"] == "1"
