//! The real crate behind JSON lines: one command on stdin, one answer on stdout.
//!
//! A command is `{"operation": ..., ...}`; an answer is `{"ok": ...}` or `{"error": "..."}`.
//! Documents travel as flat lists of tokens, floats as the hex digits of their bits.

mod flat;
mod random;

use std::io::{self, BufRead, Write};
use std::path::Path;

use flat::{flatten, unflatten};
use serde_json::{json, Value};
use sh_layer2::checkpoint_system::{
    CheckpointData, CheckpointSystemTrait, CheckpointWriter, ChecksumUtils,
};
use sh_layer2::types::{CheckpointId, CheckpointMeta, SessionId};

/// What this program was built from, so that a stale build is noticed.
const SOURCES: [(&str, &str); 4] = [
    ("Cargo.lock", include_str!("../Cargo.lock")),
    ("src/flat.rs", include_str!("flat.rs")),
    ("src/main.rs", include_str!("main.rs")),
    ("src/random.rs", include_str!("random.rs")),
];

type Answer = Result<Value, String>;

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut answers = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let answer = match runtime.block_on(answer(&line?)) {
            Ok(value) => json!({ "ok": value }),
            Err(reason) => json!({ "error": reason }),
        };
        serde_json::to_writer(&mut answers, &answer)?;
        answers.write_all(b"\n")?;
        answers.flush()?;
    }
    Ok(())
}

async fn answer(line: &str) -> Answer {
    let command: Value = serde_json::from_str(line).map_err(text)?;
    match argument(&command, "operation")? {
        "sources" => Ok(SOURCES
            .iter()
            .map(|(name, source)| json!([name, source]))
            .collect()),
        "save" => save(&command).await,
        "load" => load(&command).await,
        "list" => list(&command).await,
        "delete" => delete(&command).await,
        "verify" => {
            let path = Path::new(argument(&command, "path")?);
            CheckpointWriter::new("")
                .verify(path)
                .map(Value::Bool)
                .map_err(text)
        }
        "values" => values(&command).await,
        "new_ids" => Ok(json!([SessionId::new(), CheckpointId::new()])),
        "read" => {
            let value: Value = serde_json::from_str(argument(&command, "text")?).map_err(text)?;
            Ok(json!(flatten(&value)))
        }
        "print_floats" => strings(&command, "floats")?
            .iter()
            .map(|bits| printed(bits))
            .collect(),
        "read_floats" => Ok(strings(&command, "texts")?
            .iter()
            .map(|text| read(text))
            .collect()),
        "checksum" => {
            let document = unflatten(&strings(&command, "document")?)?;
            Ok(json!(ChecksumUtils::compute_checksum(&document)))
        }
        other => Err(format!("unknown operation {other:?}")),
    }
}

async fn save(command: &Value) -> Answer {
    let document = unflatten(&strings(command, "document")?)?;
    let data: CheckpointData = serde_json::from_value(document).map_err(text)?;
    writer(command)?
        .save(&data)
        .await
        .map(|id| json!(id))
        .map_err(text)
}

async fn load(command: &Value) -> Answer {
    let id = checkpoint_id(command).ok();
    let found = writer(command)?
        .load(&session_id(command)?, id.as_ref())
        .await
        .map_err(text)?;
    match found {
        None => Ok(Value::Null),
        Some(data) => Ok(json!(flatten(&serde_json::to_value(data).map_err(text)?))),
    }
}

async fn list(command: &Value) -> Answer {
    let metas: Vec<CheckpointMeta> = writer(command)?
        .list(&session_id(command)?)
        .await
        .map_err(text)?;
    Ok(json!(metas))
}

async fn delete(command: &Value) -> Answer {
    let (session_id, checkpoint_id) = (session_id(command)?, checkpoint_id(command)?);
    let found = writer(command)?.delete(&session_id, &checkpoint_id).await;
    found.map(Value::Bool).map_err(text)
}

/// Make seeded random checkpoints, save them, and answer with them as they were in memory.
async fn values(command: &Value) -> Answer {
    let seed = command["seed"].as_u64().ok_or("no seed")?;
    let count = command["count"].as_u64().ok_or("no count")?;
    let session_id = argument(command, "session_id")?;
    let writer = writer(command)?;
    let mut random = random::Random(seed);
    let mut saved = Vec::new();
    for number in 0..count {
        let document = random.checkpoint(session_id, &format!("{seed:04x}{number:04x}"));
        let data: CheckpointData = serde_json::from_value(document).map_err(text)?;
        writer.save(&data).await.map_err(text)?;
        saved.push(flatten(&serde_json::to_value(&data).map_err(text)?));
    }
    Ok(json!(saved))
}

fn printed(bits: &str) -> Answer {
    let value: Value = json!(flat::float(bits)?);
    serde_json::to_string(&value)
        .map(Value::String)
        .map_err(text)
}

/// Return the bits of the float that serde_json makes of a number's text; null if it refuses.
fn read(number: &str) -> Value {
    let value = serde_json::from_str::<Value>(number).ok();
    value
        .and_then(|value| value.as_f64())
        .map_or(Value::Null, |float| {
            Value::String(format!("{:016x}", float.to_bits()))
        })
}

fn writer(command: &Value) -> Result<CheckpointWriter, String> {
    let writer = CheckpointWriter::new(argument(command, "root")?);
    Ok(match command["max_backups"].as_u64() {
        Some(count) => writer.with_max_backups(count as usize),
        None => writer,
    })
}

fn session_id(command: &Value) -> Result<SessionId, String> {
    argument(command, "session_id").map(SessionId::from)
}

fn checkpoint_id(command: &Value) -> Result<CheckpointId, String> {
    argument(command, "checkpoint_id").map(|id| CheckpointId(id.into()))
}

fn argument<'a>(command: &'a Value, name: &str) -> Result<&'a str, String> {
    command[name].as_str().ok_or_else(|| format!("no {name}"))
}

fn strings(command: &Value, name: &str) -> Result<Vec<String>, String> {
    let items = command[name]
        .as_array()
        .ok_or_else(|| format!("no {name}"))?;
    items
        .iter()
        .map(|item| {
            item.as_str()
                .map(String::from)
                .ok_or_else(|| format!("{name}: not text"))
        })
        .collect()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
