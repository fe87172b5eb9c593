"""A chat service on anyio that remembers every conversation, over restarts and SIGTERM.

python examples/anyio_service.py [directory]

Then `nc 127.0.0.1 PORT`: the first line names your session, each further line is a message.
One client talks in a session at a time; a service for more would lock it between them.
"""

import signal
import sys
from functools import partial

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, CheckpointError

Writer = AsyncCheckpointWriter[CheckpointData]
MAX_LINE_BYTES = 10_000
TURN_SECONDS = 30


async def answer(text: str) -> str:
    """Stand in for a model."""
    await anyio.sleep(0.05)
    return text.upper()


async def take_turn(writer: Writer, state: CheckpointData, text: str) -> CheckpointData:
    """Answer a message; the answer is safe on disk before anybody sees it."""
    reply = await answer(text)
    turn = [{"role": "user", "content": text}, {"role": "assistant", "content": reply}]
    after = state.next(iteration=state.iteration + 1, messages=[*state.messages, *turn])
    await writer.save(after)
    return after


async def converse(writer: Writer, connection: SocketStream) -> None:
    lines = BufferedByteReceiveStream(connection)
    session_id = (await lines.receive_until(b"\n", MAX_LINE_BYTES)).decode()
    state = await writer.load(session_id) or CheckpointData(session_id=session_id)
    while True:
        text = (await lines.receive_until(b"\n", MAX_LINE_BYTES)).decode()
        # A turn that has begun is finished, also when the service is told to stop.
        with anyio.fail_after(TURN_SECONDS, shield=True):
            print(f"{session_id}: turn {state.iteration + 1}", flush=True)
            state = await take_turn(writer, state, text)
            reply = f"{state.iteration}: {state.messages[-1]['content']}\n"
            await connection.send(reply.encode())


async def serve(writer: Writer, connection: SocketStream) -> None:
    """Serve one client; whatever goes wrong ends this conversation, not the service."""
    async with connection:
        try:
            await converse(writer, connection)
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            pass  # the client has gone
        except (CheckpointError, TimeoutError, UnicodeError, anyio.DelimiterNotFound) as error:
            print(f"a conversation ended: {error!r}", flush=True)


async def stop_on_signal(service: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            print("finishing the turns that have begun", flush=True)
            service.cancel()


async def main(directory: str) -> None:
    async with AsyncCheckpointWriter(directory) as writer, anyio.create_task_group() as service:
        service.start_soon(stop_on_signal, service.cancel_scope)
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(SocketAttribute.local_port)
            print(f"listening on 127.0.0.1 port {port}", flush=True)
            await listener.serve(partial(serve, writer), service)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "conversations")
