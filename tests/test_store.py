"""The store: what goes in comes out, with its provenance; and every fault told, with nothing lost."""

import builtins
import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from small_model import make_model, make_processor

import helpers
from helpers.encode import Encoder, Options, Summary, into_store, list_items, plan
from helpers.store import Store, faiss_index, provenance, top_k, weights_hash

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tiny():
    return make_model(), make_processor()


@pytest.fixture
def photos(tmp_path):
    """Twelve small pictures, no two alike."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(12):
        save(folder / f"{k:02}.png", k)
    return folder


def save(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    """Equal but for the batches that they were computed in."""
    torch.testing.assert_close(
        one.float(), other.float(), atol=1e-3 if torch.float16 in (one.dtype, other.dtype) else 1e-5, rtol=1e-3
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix == ".parquet"}


# --- in and out -------------------------------------------------------------------------------------------------------


def test_what_goes_in_comes_out(tiny, photos, tmp_path):
    done = into_store(*tiny, photos, tmp_path / "store", rows=5, options=Options(dtype="float32"))
    assert done == Summary(encoded=12, shards=3)
    store = Store(tmp_path / "store")
    assert len(store) == 12
    again = store.read()
    direct = helpers.encode_images(*tiny, sorted(photos.iterdir()))
    close(again.features, direct.features)
    assert (again.names, again.grid) == (direct.names, direct.grid)
    half = into_store(*tiny, photos, tmp_path / "half")
    assert half.encoded == 12
    features = Store(tmp_path / "half").read().features
    assert features.dtype == torch.float16
    close(features, direct.features)


def test_a_second_run_does_nothing_and_a_new_picture_is_a_new_shard(tiny, photos, tmp_path):
    into_store(*tiny, photos, tmp_path / "store", rows=5)
    before = snapshot(tmp_path / "store")
    assert into_store(*tiny, photos, tmp_path / "store", rows=5) == Summary(skipped=12)
    save(photos / "new.png", 99)
    assert into_store(*tiny, photos, tmp_path / "store") == Summary(encoded=1, skipped=12, shards=1)
    after = snapshot(tmp_path / "store")
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1
    assert len(Store(tmp_path / "store")) == 13


@pytest.mark.parametrize("check", ["hash", "time"])
def test_a_changed_picture_is_encoded_anew_and_the_newest_row_wins(tiny, photos, tmp_path, check):
    into_store(*tiny, photos, tmp_path / "store")
    old = Store(tmp_path / "store").read([str(photos / "03.png")]).features
    save(photos / "03.png", 77)
    assert into_store(*tiny, photos, tmp_path / "store", check=check) == Summary(encoded=1, skipped=11, shards=1)
    store = Store(tmp_path / "store")
    new = store.read([str(photos / "03.png")]).features
    assert not torch.equal(old, new)
    close(new, helpers.encode_images(*tiny, [photos / "03.png"]).features)
    assert len(store) == store.to_pandas()["path"].nunique() == 12


def test_a_picture_changed_within_its_size_and_time_is_seen_by_its_hash(tiny, photos, tmp_path):
    path = photos / "00.bmp"
    save(path, 1)
    stat = path.stat()
    into_store(*tiny, photos, tmp_path / "store")
    save(path, 2)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert into_store(*tiny, photos, tmp_path / "store", check="time").encoded == 0
    assert into_store(*tiny, photos, tmp_path / "store").encoded == 1


def test_a_shard_says_who_made_it(tiny, photos, tmp_path):
    model, processor = tiny
    into_store(model, processor, photos, tmp_path / "store")
    meta = {k.decode(): v.decode() for k, v in pq.read_schema(next((tmp_path / "store").glob("v*"))).metadata.items()}
    scales = helpers.scales(model)
    assert float(meta["logit_scale_exponentiated"]) == pytest.approx(scales.logit_scale)
    assert float(meta["concept_logit_scale_exponentiated"]) == pytest.approx(scales.concept_logit_scale)
    assert float(meta["logit_bias"]) == pytest.approx(scales.logit_bias)
    assert float(meta["concept_logit_bias"]) == pytest.approx(scales.concept_logit_bias)
    assert meta["weights_sha256"] == weights_hash(model)
    assert (meta["pixels"], meta["dtype"], meta["width"], meta["grid"]) == ("exact", "float16", "64", "4x4")
    assert {"model_id", "model_revision", "preprocessing", "written_by", "format", "model_dtype"} <= meta.keys()
    schema = pq.read_schema(next((tmp_path / "store").glob("v*")))
    assert schema.field("vector").type == pa.list_(pa.float16(), 64)


def test_the_hash_of_the_weights(tiny):
    model, _ = tiny
    assert weights_hash(make_model().to(torch.bfloat16)) == weights_hash(model)
    other = make_model()
    with torch.no_grad():
        other.logit_scale += 1  # no vector depends on it
    assert weights_hash(other) == weights_hash(model)
    with torch.no_grad():
        next(p for p in other.parameters() if p.ndim == 2)[0, 0] += 1
    assert weights_hash(other) != weights_hash(model)


def test_hub_models_are_called_by_their_id_and_commit(tiny):
    model = make_model()
    model.name_or_path = "/cache/hub/models--JerrryNie--ConceptCLIP/snapshots/0a1b2c3d4e"
    meta = provenance(model, tiny[1])
    assert (meta["model_id"], meta["model_revision"]) == ("JerrryNie/ConceptCLIP", "0a1b2c3d4e")
    model.name_or_path = "/data/models/my-model"
    assert (provenance(model, tiny[1])["model_id"], provenance(model, tiny[1])["model_revision"]) == ("my-model", "")


def test_labels_come_from_a_table_and_follow_it_without_encoding(tiny, photos, tmp_path, monkeypatch):
    table = pd.DataFrame({"file": [f"{k:02}.png" for k in range(12)], "label": ["a", "b"] * 6, "count": range(12)})
    table.to_csv(photos / "table.csv", index=False)
    into_store(*tiny, photos, tmp_path / "store", rows=5)  # without labels first
    done = into_store(*tiny, photos / "table.csv", tmp_path / "store", rows=5)
    assert done == Summary(relabelled=12, shards=1)
    store = Store(tmp_path / "store")
    stored = store.to_pandas()
    assert stored["label"].tolist() == table["label"].tolist()
    assert stored["count"].tolist() == [str(n) for n in range(12)]  # tables are read as text
    before = store.read().features
    table.loc[3, "label"] = "c"
    table.loc[4, "label"] = None
    table.to_csv(photos / "table.csv", index=False)
    monkeypatch.setattr("helpers.encode.iter_image_encodings", None)  # nothing is encoded
    assert into_store(*tiny, photos / "table.csv", tmp_path / "store") == Summary(relabelled=2, skipped=10, shards=1)
    store = Store(tmp_path / "store")
    by_file = store.to_pandas().set_index("path")["label"]
    assert by_file[str(photos / "03.png")] == "c"
    assert pd.isna(by_file[str(photos / "04.png")])
    paths = [str(photos / f"{k:02}.png") for k in range(12)]
    assert torch.equal(store.read(paths).features, before)


def test_labels_of_another_kind_or_name_are_refused(tiny, photos, tmp_path):
    paths = [str(photos / f"{k:02}.png") for k in range(12)]
    for column, values, said in (("vector", range(12), "vector"), ("label", [1, "a"] * 6, "label")):
        pd.DataFrame({"path": paths, column: values}).to_parquet(tmp_path / "t.parquet") if column == "vector" else None
        items = [helpers.encode.Item(p, "file", p, labels={column: v}) for p, v in zip(paths, values, strict=True)]
        with pytest.raises(ValueError, match=said):
            into_store(*tiny, items, tmp_path / "store")
    first = [helpers.encode.Item(p, "file", p, labels={"label": 1}) for p in paths[:6]]
    into_store(*tiny, first, tmp_path / "store")
    later = [helpers.encode.Item(p, "file", p, labels={"label": "b"}) for p in paths[6:]]
    with pytest.raises(ValueError, match="label"):
        into_store(*tiny, later, tmp_path / "store")


def test_patch_vectors_in_shards_of_their_own(tiny, photos, tmp_path):
    into_store(*tiny, photos, tmp_path / "store", rows=5)
    with pytest.raises(ValueError, match="12 of 12"):
        Store(tmp_path / "store").read(tokens=True)
    options = Options(tokens=True, dtype="float16")
    assert into_store(*tiny, photos, tmp_path / "store", rows=5, options=options).encoded == 12
    assert into_store(*tiny, photos, tmp_path / "store", rows=5, options=options).skipped == 12
    again = Store(tmp_path / "store").read(tokens=True)
    direct = helpers.encode_images(*tiny, sorted(photos.iterdir()), tokens=True)
    close(again.tokens, direct.tokens)
    assert again.map().shape == (12, 4, 4, 64)
    assert len(again) == 12


def test_a_shard_of_patch_vectors_fits_in_memory(tiny, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.encode.TOKEN_BYTES", 3 * 16 * 64 * 2)
    assert into_store(*tiny, photos, tmp_path / "store", options=Options(tokens=True)).shards == 4


def test_concept_scores_as_they_come(tiny, photos, tmp_path):
    phrases = ("segmented nucleus", "red cells")
    options = Options(concepts=phrases)
    into_store(*tiny, photos, tmp_path / "store", rows=5, options=options)
    scores = Store(tmp_path / "store").concepts()
    images = helpers.encode_images(*tiny, sorted(photos.iterdir()), tokens=True)
    vectors = helpers.concept_vectors(*tiny, list(phrases))
    expected = helpers.scoring.local_scores(images.tokens, vectors, recipe="training")
    np.testing.assert_allclose(scores.to_numpy(), expected.numpy(), atol=1e-5)
    assert tuple(scores.columns) == phrases
    assert not list((tmp_path / "store").glob("tokens*"))
    assert into_store(*tiny, photos, tmp_path / "store", options=options).skipped == 12
    other = Options(concepts=("round",))
    assert into_store(*tiny, photos, tmp_path / "store", options=other).encoded == 12
    store = Store(tmp_path / "store")
    assert store.concepts(options.reduction).shape == (12, 2)
    assert store.concepts(other.reduction).shape == (12, 1)
    assert len(store) == 12


def test_a_reduction_of_ones_own(tiny, photos, tmp_path):
    options = Options(concepts=("length",), recipe="mine")
    into_store(
        *tiny, photos, tmp_path / "s", options=options, reduce=lambda part: part.tokens.norm(dim=-1).mean(1, True)
    )
    images = helpers.encode_images(*tiny, sorted(photos.iterdir()), tokens=True)
    found = Store(tmp_path / "s").concepts()["length"].to_numpy()
    np.testing.assert_allclose(found, images.tokens.norm(dim=-1).mean(1).numpy(), rtol=1e-5)


def test_old_files_still_load(tiny, photos, tmp_path):
    encoded = helpers.encode_images(*tiny, sorted(photos.iterdir()))
    path = encoded.save(tmp_path / "old.safetensors")
    assert torch.equal(helpers.load_encodings(path).features, encoded.features)


def test_datasets_reads_it(tiny, photos, tmp_path):
    pytest.importorskip("datasets")
    into_store(*tiny, photos, tmp_path / "store", rows=5)
    store = Store(tmp_path / "store")
    dataset = store.to_datasets().with_format("numpy")
    assert len(dataset) == 12
    np.testing.assert_allclose(dataset[3]["vector"], store.read().features[3].numpy(), atol=1e-3)


# --- search -----------------------------------------------------------------------------------------------------------


def test_top_k_in_chunks_is_that_of_the_whole():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(1000, 16, generator=generator), dim=1)
    queries = vectors[:7] + 0.01
    whole = (queries @ vectors.T).topk(5)
    for chunks, rows in (([vectors], 65536), (vectors.split(300), 64), (vectors.split(3), 1)):
        values, found = top_k(queries, chunks, 5, rows=rows)
        torch.testing.assert_close(values, whole.values)
        assert torch.equal(found, whole.indices)
    assert top_k(queries, [vectors[:3]], 5)[0].shape == (7, 3)
    with pytest.raises(ValueError, match=r"^k .*0"):
        top_k(queries, [vectors], 0)


def test_search_finds_the_picture_itself_and_gives_its_labels(tiny, photos, tmp_path, monkeypatch):
    items = [
        helpers.encode.Item(str(p), "file", str(p), labels={"n": k}) for k, p in enumerate(sorted(photos.iterdir()))
    ]
    into_store(*tiny, items, tmp_path / "store", rows=5)
    store = Store(tmp_path / "store")
    queries = helpers.encode_images(*tiny, [photos / "04.png", photos / "09.png"])
    found = store.search(queries, k=3)
    first = found[found["rank"] == 1]
    assert first["n"].tolist() == [4, 9]
    assert first["query"].tolist() == ["04.png", "09.png"]
    assert (first["cosine"] > 0.999).all()
    monkeypatch.setattr("helpers.store.shards.IN_MEMORY", 0)  # shard by shard
    streamed = Store(tmp_path / "store").search(queries, k=3)
    pd.testing.assert_frame_equal(streamed, found)
    save(photos / "new.png", 50)
    into_store(*tiny, photos, tmp_path / "store")
    assert Path(store.search(helpers.encode_images(*tiny, [photos / "new.png"]), k=1)["path"][0]).name == "new.png"


def test_prompts_and_wrong_queries(tiny, photos, tmp_path):
    into_store(*tiny, photos, tmp_path / "store")
    store = Store(tmp_path / "store")
    found = store.search(["red cells", "nucleus"], k=2, model=tiny[0], processor=tiny[1])
    assert found["query"].tolist() == ["red cells"] * 2 + ["nucleus"] * 2
    with pytest.raises(ValueError, match="model="):
        store.search("red cells")
    with pytest.raises(ValueError, match="64"):
        store.search(torch.rand(2, 32))


def test_faiss_finds_the_same(tiny, photos, tmp_path):
    pytest.importorskip("faiss")
    into_store(*tiny, photos, tmp_path / "store")
    store = Store(tmp_path / "store")
    queries = helpers.encode_images(*tiny, sorted(photos.iterdir()))
    exact, near = store.search(queries, k=1), store.search(queries, k=1, faiss=True)
    assert exact["path"].tolist() == near["path"].tolist()


def test_without_faiss_it_says_so(monkeypatch):
    real = builtins.__import__
    monkeypatch.setattr(
        builtins,
        "__import__",
        lambda n, *a, **k: (_ for _ in ()).throw(ImportError(n)) if n == "faiss" else real(n, *a, **k),
    )
    with pytest.raises(ImportError, match="faiss-cpu"):
        faiss_index(torch.rand(3, 4))


# --- faults -----------------------------------------------------------------------------------------------------------


def test_another_models_store_is_refused_and_both_are_named(tiny, photos, tmp_path):
    into_store(*tiny, photos, tmp_path / "store")
    before = snapshot(tmp_path / "store")
    other = make_model(seed=1)
    other.name_or_path = "other-model"
    store = Store(tmp_path / "store")
    for act in (
        lambda: into_store(other, tiny[1], photos, tmp_path / "store"),
        lambda: store.search(["red cells"], model=other, processor=tiny[1]),
        lambda: helpers.zero_shot(other, tiny[1], store.read(), ["band", "nucleus"]),
        lambda: helpers.annotate(other, tiny[1], store.read(), ["band"], alpha=0),
        lambda: store.check(other),
    ):
        with pytest.raises(ValueError) as error:
            act()
        assert "other-model" in str(error.value)
        assert weights_hash(tiny[0])[:12] in str(error.value)
        assert weights_hash(other)[:12] in str(error.value)
        assert weights_hash(other) not in str(error.value)  # 64 digits that nobody reads
    assert helpers.zero_shot(*tiny, store.read(), ["band", "nucleus"]).shape == (12, 2)
    assert snapshot(tmp_path / "store") == before


@pytest.mark.parametrize("options", [Options(dtype="float32"), Options(pixels="fast")])
def test_other_settings_are_refused_by_name(tiny, photos, tmp_path, options):
    into_store(*tiny, photos, tmp_path / "store")
    with pytest.raises(ValueError, match="dtype" if options.dtype == "float32" else "pixels"):
        into_store(*tiny, photos, tmp_path / "store", options=options)


def test_a_shard_of_another_model_among_the_others_is_named(tiny, photos, tmp_path):
    into_store(*tiny, photos, tmp_path / "one")
    into_store(make_model(seed=1), tiny[1], photos, tmp_path / "two")
    shard = next((tmp_path / "two").glob("vectors*"))
    shard.rename(tmp_path / "one" / shard.name.replace("000000", "000001"))
    with pytest.raises(ValueError, match="vectors-000001"):
        Store(tmp_path / "one")


def test_failures_are_a_table_and_are_tried_again(tiny, photos, tmp_path):
    (photos / "03.png").write_bytes(b"no image")
    (photos / "04.png").write_bytes(b"")
    done = into_store(*tiny, photos, tmp_path / "store", rows=5)
    assert (done.encoded, done.failed) == (10, 2)
    failures = Store(tmp_path / "store").failures()
    assert [Path(p).name for p in failures["path"]] == ["03.png", "04.png"]
    assert failures["problem"].str.contains("0[34].png").all()
    assert str(tmp_path) not in " ".join(failures["problem"])
    save(photos / "03.png", 3)
    done = into_store(*tiny, photos, tmp_path / "store", rows=5)
    assert (done.encoded, done.failed, done.skipped) == (1, 1, 10)
    assert [Path(p).name for p in Store(tmp_path / "store").failures()["path"]] == ["04.png"]


def test_a_shard_of_nothing_but_broken_pictures(tiny, photos, tmp_path):
    for k in range(5):
        (photos / f"{k:02}.png").write_bytes(b"no image")
    done = into_store(*tiny, photos, tmp_path / "store", rows=5, options=Options(batch_size=2))
    assert (done.encoded, done.failed) == (7, 5)
    assert len(Store(tmp_path / "store").failures()) == 5


def test_a_picture_replaced_by_a_broken_one_has_no_vector_and_one_that_is_gone_keeps_its(tiny, photos, tmp_path):
    items = list_items(photos)
    into_store(*tiny, items, tmp_path / "store")
    (photos / "03.png").write_bytes(b"no image")
    (photos / "04.png").unlink()
    assert into_store(*tiny, items, tmp_path / "store").failed == 2
    store = Store(tmp_path / "store")
    left = {Path(p).name for p in store.rows()["path"]}
    assert len(store) == 11
    assert "03.png" not in left and "04.png" in left
    assert len(store.failures()) == 2


def test_a_folder_that_changes_under_the_run(tiny, photos, tmp_path, monkeypatch):
    """One picture is replaced after it was hashed, one is deleted: neither gets a vector that is not of its hash."""
    real = helpers.encode.iter_image_encodings

    def changes(*args, **kwargs):
        for part in real(*args, **kwargs):
            save(photos / "05.png", 500)
            (photos / "06.png").unlink(missing_ok=True)
            yield part

    monkeypatch.setattr("helpers.encode.iter_image_encodings", changes)
    items = list_items(photos)
    done = into_store(*tiny, items, tmp_path / "store", options=Options(batch_size=12))
    assert (done.encoded, done.failed) == (10, 2)
    problems = sorted(Store(tmp_path / "store").failures()["problem"])
    assert [problem[:6] for problem in problems] == ["05.png", "06.png"]
    monkeypatch.undo()
    done = into_store(*tiny, items, tmp_path / "store")
    assert (done.encoded, done.failed, done.skipped) == (1, 1, 10)
    path = photos / "05.png"
    again = Store(tmp_path / "store").read([str(path)]).features
    close(again, helpers.encode_images(*tiny, [path]).features)


def test_two_runs_into_one_store(tiny, photos, tmp_path):
    with Store(tmp_path / "store", create=True).writing(), pytest.raises(RuntimeError, match="store"):
        into_store(*tiny, photos, tmp_path / "store")
    assert into_store(*tiny, photos, tmp_path / "store").encoded == 12  # the lock is gone


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_a_corrupt_shard_is_named_and_its_pictures_are_encoded_anew(tiny, photos, tmp_path, damage):
    into_store(*tiny, photos, tmp_path / "store", rows=5)
    before = Store(tmp_path / "store").read(sorted(map(str, photos.iterdir()))).features
    shard = sorted((tmp_path / "store").glob("vectors-000001*"))[0]
    data = bytearray(shard.read_bytes())
    if damage == "flipped":  # in the last data page: the footer is whole
        end = pq.read_metadata(shard).row_group(0).column(4)
        data[end.data_page_offset + end.total_compressed_size - 9] ^= 255
    shard.write_bytes({"cut": bytes(data[: len(data) // 2]), "empty": b"", "flipped": bytes(data)}[damage])
    with pytest.raises(ValueError, match=shard.name):
        Store(tmp_path / "store").read()
    if damage != "flipped":  # seen when the store is opened
        with pytest.raises(ValueError, match=shard.name):
            into_store(*tiny, photos, tmp_path / "store")
    shard.unlink()
    assert into_store(*tiny, photos, tmp_path / "store", rows=5).encoded == 5
    close(Store(tmp_path / "store").read(sorted(map(str, photos.iterdir()))).features, before)


def test_a_full_disk_leaves_no_half_shard(tiny, photos, tmp_path, monkeypatch):
    real, count = pq.write_table, []

    def fills(table, where, **kwargs):
        count.append(1)
        if len(count) == 2:
            Path(where).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(table, where, **kwargs)

    monkeypatch.setattr(pq, "write_table", fills)
    with pytest.raises(OSError, match="vectors-000001"):
        into_store(*tiny, photos, tmp_path / "store", rows=5)
    assert [p.name[:14] for p in (tmp_path / "store").iterdir() if p.name != ".lock"] == ["vectors-000000"]
    monkeypatch.undo()
    assert into_store(*tiny, photos, tmp_path / "store", rows=5) == Summary(encoded=7, skipped=5, shards=2)


def test_a_file_that_may_not_grow(tiny, photos, tmp_path):
    """The kernel itself refuses to write on: what a quota or a full disk looks like to pyarrow."""
    into_store(*tiny, photos, tmp_path / "store")
    size = next((tmp_path / "store").glob("v*")).stat().st_size
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
        code = 1
        try:
            store = Store(tmp_path / "other", create=True)
            table = Store(tmp_path / "store").to_arrow()
            store.write("vectors", 0, table, "00")
        except OSError as error:
            code = 0 if "could not be written" in str(error) else 2
        except BaseException:
            code = 3
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert list((tmp_path / "other").iterdir()) == []


def test_no_permission_to_write(tiny, photos, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            if os.getuid() == 0:  # who may write everywhere
                for above in [tmp_path, *tmp_path.parents[:-2]]:
                    above.chmod(0o755)
                os.setuid(65534)
            for place in (folder, folder / "new"):
                try:
                    with Store(place, create=True).writing():
                        code = 2
                except PermissionError as error:
                    code = code if "cannot be written" in str(error) else 3
            code = 0 if code == 1 else code
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_folders_that_are_no_store(tmp_path, photos):
    with pytest.raises(ValueError, match="absent"):
        Store(tmp_path / "absent")
    with pytest.raises(ValueError, match="photos"):
        Store(photos, create=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty"):
        Store(tmp_path / "empty")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "empty" / "vectors-000000-00.parquet")
    with pytest.raises(ValueError, match=r"vectors-000000-00\.parquet"):
        Store(tmp_path / "empty")


def test_vectors_that_float16_cannot_hold_are_refused(tiny, photos, tmp_path):
    model, processor = tiny
    store = Store(tmp_path / "store", create=True)
    options = Options()
    encoder = Encoder(model, processor, store, options.provenance(model, processor), options)
    tasks, _ = plan(list_items(photos), store, encoder.meta, options)
    from helpers.store import ShardWriter

    with pytest.raises(ValueError, match=r"a.png.*float16"), ShardWriter(store, 0, encoder.meta) as writer:
        writer.add([{"path": "a.png", "sha256": "", "size": 1, "modified": 1}], torch.full((1, 64), 1e6))
    assert not store.shards()
    assert len(tasks) == 1


COMMAND = [sys.executable, "-m", "helpers.encode"]


def command(*arguments, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen([*COMMAND, *map(str, arguments), "--quiet"], env=environment, text=True, **more)


def test_kill_minus_nine_and_again(tiny_model_folder, tmp_path):
    """Killed where nothing can be tidied up, and run again: nothing lost, nothing twice, the same vectors."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for k in range(150):
        save(photos / f"{k:03}.png", k)
    store = tmp_path / "store"
    arguments = (photos, "--out", store, "--model", tiny_model_folder, "--rows", 1, "--batch-size", 1)
    process = command(*arguments)
    deadline = time.monotonic() + 600
    while len(list(store.glob("vectors*"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (store / ".vectors-000009-00.parquet.1.part").write_bytes(b"half a shard")
    left = len(list(store.glob("vectors*")))
    assert 5 <= left < 150
    again = command(*arguments, stdout=subprocess.PIPE)
    said = again.communicate()[0]
    assert again.returncode == 0
    assert f"{150 - left} encoded, {left} there already" in said
    whole = Store(store)
    rows = pd.concat([pq.read_table(path, columns=["path"]).to_pandas() for path in whole.shards()])
    assert rows["path"].nunique() == len(rows) == 150
    assert not list(store.glob(".*.part"))
    model, processor = helpers.load(tiny_model_folder)
    direct = helpers.encode_images(model, processor, sorted(photos.iterdir()))
    close(whole.read(sorted(map(str, photos.iterdir()))).features, direct.features)


def test_the_command_tells_of_failures_and_faults(tiny_model_folder, photos, tmp_path, capsys):
    from helpers.encode.__main__ import main

    (photos / "03.png").write_bytes(b"no image")
    arguments = [str(photos), "--out", str(tmp_path / "store"), "--model", str(tiny_model_folder), "--quiet"]
    assert main(arguments) == 3
    out = capsys.readouterr().out
    assert "11 encoded" in out and "03.png" in out
    for more in (("--address", "ray://x"), ("--workers", "2")):
        with pytest.raises(SystemExit):
            main([*arguments, *more])
        assert "--engine daft" in capsys.readouterr().err
    with pytest.raises(ValueError, match="low < high"):
        main([*arguments, "--window", "5", "1"])
    with pytest.raises(ValueError, match=r"03\.png is a file"):
        main([str(photos), "--out", str(photos / "03.png")])
    done = command(
        tmp_path / "absent-folder", "--out", tmp_path / "s2", "--model", tiny_model_folder, stderr=-1, stdout=-1
    )
    said = done.communicate()
    assert done.returncode == 1
    assert "absent-folder: no such file or folder" in said[1]
    assert "Traceback" not in said[1]
    assert not (tmp_path / "s2").exists()
