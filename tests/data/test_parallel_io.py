from graftdet.data.parallel_io import DirectoryListings, map_threads


def test_map_threads_keeps_the_order():
    assert list(map_threads(lambda n: n * n, range(1000), threads=3, batch=7)) == [(n, n * n) for n in range(1000)]


def test_directory_listings(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.jpg").touch()
    listings = DirectoryListings()
    assert listings.contains(str(tmp_path / "sub/a.jpg")) and listings.contains(str(tmp_path / "sub"))
    assert not listings.contains(str(tmp_path / "sub/b.jpg")) and not listings.contains(str(tmp_path / "none/a.jpg"))
    (tmp_path / "sub/b.jpg").touch()  # created after the listing
    assert listings.contains(str(tmp_path / "sub/b.jpg"))
