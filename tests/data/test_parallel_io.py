from graftdet.data.parallel_io import Listings, map_threads


def test_map_threads_keeps_the_order():
    assert list(map_threads(lambda n: n * n, range(1000), threads=3, batch=7)) == [(n, n * n) for n in range(1000)]


def test_listings(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.jpg").touch()
    listings = Listings()
    assert listings.has(str(tmp_path / "sub/a.jpg")) and listings.has(str(tmp_path / "sub"))
    assert not listings.has(str(tmp_path / "sub/b.jpg")) and not listings.has(str(tmp_path / "none/a.jpg"))
    (tmp_path / "sub/b.jpg").touch()  # after the listing: asked for itself
    assert listings.has(str(tmp_path / "sub/b.jpg"))
