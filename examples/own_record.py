"""Checkpoints of a type of your own, validated on the way in and out. Each run adds a day.

python examples/own_record.py [directory]
"""

import asyncio
import sys
from datetime import date, timedelta

from msgspec import Struct

from aiocheckpoint import AsyncCheckpointWriter, CheckpointRecord


class Camp(Struct):
    name: str
    altitude_m: int


class Expedition(CheckpointRecord):
    day: date
    camps: list[Camp]
    food_kg: float


async def main(directory: str) -> None:
    async with AsyncCheckpointWriter(directory, record_type=Expedition) as writer:
        latest = await writer.load("north-face")
        if latest is None:
            first = Camp("base camp", 4200)
            today = Expedition(
                session_id="north-face", day=date(2026, 7, 1), camps=[first], food_kg=60
            )
        else:
            above = Camp(f"camp {len(latest.camps)}", latest.camps[-1].altitude_m + 400)
            today = latest.next(
                day=latest.day + timedelta(days=1),
                camps=[*latest.camps, above],
                food_kg=latest.food_kg - 4.5,
            )
        await writer.save(today)
        camp = today.camps[-1]
        print(f"{today.day}: {camp.name} at {camp.altitude_m} m, {today.food_kg} kg of food left")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "expeditions"))
