//! The meeting point of a communicator's ranks: a thread that listens on a loopback port of the process that
//! made the unique id.
//!
//! Ranks are threads of one process or processes of one machine; both connect. A request waits for those it
//! meets; when all are there, each is answered. Who waits too long is told who did not come.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::settle::{Part, settle};
use super::wire::{Failure, Hello, Meeting, Reply, Request, receive, send};

/// The requests that came to a meeting, by rank.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    parts: BTreeMap<usize, Part>,
}

#[derive(Debug, Default)]
struct State {
    connections: BTreeMap<usize, TcpStream>,
    meetings: BTreeMap<Meeting, Waiting>,
    left: BTreeSet<usize>,
}

#[derive(Debug)]
struct Hub {
    nonce: u64,
    patience: Duration,
    state: Mutex<State>,
}

/// Starts a hub; returns its port. `patience` is how long a request waits for the other ranks.
pub(crate) fn start(nonce: u64, patience: Duration) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let hub = Arc::new(Hub { nonce, patience, state: Mutex::default() });
    let watching = Arc::clone(&hub);
    thread::spawn(move || watching.watch());
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let hub = Arc::clone(&hub);
            thread::spawn(move || hub.serve(connection));
        }
    });
    Ok(port)
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One rank's connection, until it closes.
    fn serve(&self, mut connection: TcpStream) {
        let Ok((hello, _)) = receive::<Hello>(&mut connection) else { return };
        let Ok(writer) = connection.try_clone() else { return };
        if hello.nonce != self.nonce {
            return;
        }
        {
            let mut state = self.state();
            state.connections.insert(hello.rank, writer);
            if state.connections.len() == hello.ranks {
                // Everybody waits for this first reply.
                let ranks: Vec<usize> = state.connections.keys().copied().collect();
                for rank in ranks {
                    state.answer(rank, 0, Ok(&[]));
                }
            }
        }
        while let Ok((request, bytes)) = receive::<Request>(&mut connection) {
            self.state().arrive(hello, (request, bytes));
        }
        self.state().left.insert(hello.rank);
    }

    /// Ends meetings that wait too long, or for a rank that left.
    fn watch(&self) {
        loop {
            thread::sleep(Duration::from_millis(50));
            let mut state = self.state();
            let hopeless: Vec<Meeting> = state
                .meetings
                .iter()
                .filter(|(meeting, waiting)| {
                    let gone = state.missing(meeting, waiting).iter().any(|rank| state.left.contains(rank));
                    gone || waiting.since.elapsed() > self.patience
                })
                .map(|(&meeting, _)| meeting)
                .collect();
            for meeting in hopeless {
                state.give_up(meeting);
            }
        }
    }
}

impl State {
    fn answer(&mut self, rank: usize, id: u64, result: Result<&[u8], &Failure>) {
        let reply = Reply { id, failure: result.err().cloned() };
        if let Some(connection) = self.connections.get_mut(&rank) {
            // A rank that is gone needs no answer.
            let _: io::Result<()> = send(connection, &reply, result.unwrap_or_default());
        }
    }

    fn arrive(&mut self, hello: Hello, part: Part) {
        let meeting = part.0.meeting;
        let new = || Waiting { since: Instant::now(), parts: BTreeMap::new() };
        let waiting = self.meetings.entry(meeting).or_insert_with(new);
        waiting.parts.insert(hello.rank, part);
        let needed = match meeting {
            Meeting::All { .. } => hello.ranks,
            Meeting::Pair { .. } => 2,
        };
        if waiting.parts.len() < needed {
            return;
        }
        let waiting = self.meetings.remove(&meeting).expect("just met");
        let mut ranks: Vec<usize> = waiting.parts.keys().copied().collect();
        if let Meeting::Pair { from, to, .. } = meeting {
            ranks = vec![from, to];
        }
        let parts: Vec<Part> = ranks.iter().map(|rank| waiting.parts[rank].clone()).collect();
        match settle(&parts) {
            Ok(results) => {
                for ((rank, (request, _)), bytes) in ranks.into_iter().zip(&parts).zip(&results) {
                    self.answer(rank, request.id, Ok(bytes));
                }
            }
            Err(text) => self.fail(&waiting, &Failure::Mismatch(text)),
        }
    }

    /// The ranks that a meeting waits for.
    fn missing(&self, meeting: &Meeting, waiting: &Waiting) -> Vec<usize> {
        let all: Vec<usize> = match *meeting {
            Meeting::All { .. } => self.connections.keys().copied().collect(),
            Meeting::Pair { from, to, .. } => vec![from, to],
        };
        all.into_iter().filter(|rank| !waiting.parts.contains_key(rank)).collect()
    }

    fn give_up(&mut self, meeting: Meeting) {
        let Some(waiting) = self.meetings.remove(&meeting) else { return };
        let missing = self.missing(&meeting, &waiting);
        let names: Vec<String> = missing.iter().map(usize::to_string).collect();
        let waited = waiting.since.elapsed().as_secs_f32();
        let text = format!("rank {} did not come within {waited:.1} s, or left", names.join(", "));
        self.fail(&waiting, &Failure::Missing(text));
    }

    fn fail(&mut self, waiting: &Waiting, failure: &Failure) {
        for (&rank, (request, _)) in &waiting.parts {
            self.answer(rank, request.id, Err(failure));
        }
    }
}
