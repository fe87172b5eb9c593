"""Order, cancellation and non-blocking of the public API, seen from outside."""

import pytest

pytest.register_assert_rewrite("tests.concurrency.scenarios", "tests.concurrency.site")
