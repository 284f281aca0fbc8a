"""Best alignment of two sequences of rows."""


def align(n: int, m: int, score) -> dict[int, int]:
    """The best pairs in order (Needleman and Wunsch, 1970, without a gap penalty)."""
    best = [[0.0] * (m + 1) for _ in range(n + 1)]
    for i in range(n - 1, -1, -1):
        for j in range(m - 1, -1, -1):
            value = score(i, j)
            best[i][j] = max(best[i + 1][j], best[i][j + 1], value + best[i + 1][j + 1] if value > 0 else 0.0)
    pairs, i, j = {}, 0, 0
    while i < n and j < m:
        value = score(i, j)
        if value > 0 and best[i][j] == value + best[i + 1][j + 1]:
            pairs[i] = j
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs
