"""Ids of every kind, safe and odd, to draw from."""

from __future__ import annotations

from hypothesis import strategies as st

ODD_IDS = [
    "",
    ".",
    "..",
    "...",
    "a.",
    "a..b",
    "../x",
    "/etc/x",
    "a/b",
    "a\\b",
    "*",
    "[a]",
    "\0",
    "a\nb",
    "-a",
    "_a",
    "~",
    "~a",
    "~%61",
    "%2e",
    "CON",
    "con.txt",
    "Com1",
    "lpt9.json",
    " a",
    "a ",
    "é",
    "😀",
    "user@example.org",
    ".aiocheckpoint",
    "latest.json.",
    "a" * 129,
    "A" * 5_000,
    "~sha256-" + "0" * 64,
]
SAFE_IDS = ["a", "A", "0", "support-42", "a.b_c-d", "latest.json", "a" * 128, "CONSOLE", "com10"]

any_ids = (
    st.text(max_size=30)
    | st.text(alphabet="aA.~%/-_2eE\0", max_size=8)
    | st.sampled_from(ODD_IDS + SAFE_IDS)
    | st.integers(120, 260).map(lambda length: "x" * length)
)
