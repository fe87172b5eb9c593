"""
The promises of the library, tested from outside: public names, real processes, real disks.

Nothing here knows how the library is built. What is known is what `docs/` tells its users, and
the names of the lock files under `.aiocheckpoint/`, which a test may lock to play a process that
was stopped. One file a theme; each test's docstring is the promise.

- `workers`: other processes, driven call by call; `worker_process` is what they run.
- `tasks`, `note_tasks`: what they can be told to do on their own.
- `records`, `places`: what is saved, and what plain tools see of it; `await on_disk(writer)` stands
  before each look at files.
- `power_cut`: power cuts of a real ext4, also to be run by itself:
  `python -m tests.promises.power_cut --rounds 100 --new-boot-id`.
"""
