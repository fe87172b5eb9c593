//! Sessions that save with the real crate: a task as JSON on stdin, a report as JSON on stdout.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use serde::{Deserialize, Serialize};
use sh_layer2::checkpoint_system::{CheckpointData, CheckpointSystemTrait, CheckpointWriter};
use sh_layer2::types::{CheckpointId, SessionId};

#[derive(Deserialize)]
struct Task {
    directory: String,
    sessions: usize,
    seconds: f64,
    min_saves: usize,
    documents: Vec<CheckpointData>,
}

#[derive(Serialize)]
struct Report {
    elapsed_seconds: f64,
    latencies_ns: Vec<u64>,
}

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let task: Task = serde_json::from_reader(io::stdin().lock())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    let report = runtime.block_on(run(task))?;
    serde_json::to_writer(io::stdout().lock(), &report)?;
    Ok(())
}

async fn run(task: Task) -> Outcome<Report> {
    let writer = Arc::new(CheckpointWriter::new(&task.directory));
    let documents = Arc::new(task.documents);
    for session in 0..task.sessions {
        save(&writer, &documents, session, 0).await?;
    }
    let start = Instant::now();
    let until = start + Duration::from_secs_f64(task.seconds);
    let agents: Vec<_> = (0..task.sessions)
        .map(|session| {
            let (writer, documents) = (writer.clone(), documents.clone());
            tokio::spawn(async move {
                let mut latencies_ns = Vec::new();
                let mut step = 1;
                while step <= task.min_saves || Instant::now() < until {
                    let begin = Instant::now();
                    save(&writer, &documents, session, step).await?;
                    latencies_ns.push(begin.elapsed().as_nanos() as u64);
                    step += 1;
                }
                Outcome::Ok(latencies_ns)
            })
        })
        .collect();
    let mut latencies_ns = Vec::new();
    for agent in agents {
        latencies_ns.extend(agent.await??);
    }
    Ok(Report {
        elapsed_seconds: start.elapsed().as_secs_f64(),
        latencies_ns,
    })
}

async fn save(
    writer: &CheckpointWriter,
    documents: &[CheckpointData],
    session: usize,
    step: usize,
) -> Outcome<()> {
    let mut data = documents[(session * 7 + step) % documents.len()].clone();
    data.session_id = SessionId(format!("session-{session}"));
    data.checkpoint_id = CheckpointId::new();
    data.iteration = step as i32;
    data.created_at = Utc::now();
    writer.save(&data).await?;
    Ok(())
}
