import json

from blackbox_fx.core import cache, paths


def test_what_is_kept_comes_back_unless_damaged(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.load("things", {"a": 1}) is None
    cache.save("things", {"a": 1}, [1, 2])
    assert cache.load("things", {"a": 1}) == [1, 2] and cache.load("things", {"a": 2}) is None
    (file,) = tmp_path.rglob("*.json")
    file.write_text(json.dumps({"key": {"a": 3}, "answer": 4}))
    assert cache.load("things", {"a": 1}) is None and not caplog.records
    file.write_text("{")
    assert cache.load("things", {"a": 1}) is None and "measured again" in caplog.text


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.save("things", 1, 2)
    assert "not kept" in caplog.text


def test_a_user_without_a_home_has_a_cache(monkeypatch):
    def nobody(*_):
        raise RuntimeError("no home")

    monkeypatch.setattr("platformdirs.user_cache_path", nobody)
    monkeypatch.setattr("pathlib.Path.home", nobody)
    assert "blackbox_fx" in paths.cache().name and paths.home().is_dir()
