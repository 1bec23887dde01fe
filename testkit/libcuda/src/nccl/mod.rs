//! NCCL between ranks of one machine.
//!
//! An operation is two entries of its stream: the post, which reads this rank's buffer and sends it to the
//! hub, and the completion, which waits for the answer and writes it. So one thread can hold several ranks:
//! while it waits for one rank's answer it lets the others post. Numbers of operations are drawn when they
//! are called, so ranks must call them in the same order, as NCCL demands.

mod hub;
mod reduce;
mod settle;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use reduce::{DataType, Operator};
pub(crate) use wire::{Failure, Kind, Meeting};
use wire::{Hello, Reply, Request, receive, send};

/// What a unique id holds; the rest of its 128 bytes is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UniqueId {
    port: u16,
    nonce: u64,
}

const MAGIC: &[u8; 8] = b"precepto";

impl UniqueId {
    /// Starts the hub that ranks with this id meet at.
    pub(crate) fn create(patience: Duration) -> io::Result<Self> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nonce = (time.as_nanos() as u64).rotate_left(20) ^ u64::from(std::process::id());
        Ok(Self { port: hub::start(nonce, patience)?, nonce })
    }

    pub(crate) fn encode(self) -> [u8; 128] {
        let mut bytes = [0; 128];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&self.port.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.nonce.to_le_bytes());
        bytes
    }

    /// `None` for an id that is not of this library.
    pub(crate) fn decode(bytes: &[u8; 128]) -> Option<Self> {
        let port = u16::from_le_bytes([bytes[8], bytes[9]]);
        let nonce = u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes"));
        bytes.starts_with(MAGIC).then_some(Self { port, nonce })
    }
}

/// An answer of the hub.
pub(crate) type Answer = Result<Vec<u8>, Failure>;

/// Answers that came, by request.
#[derive(Debug, Default)]
struct Inbox {
    answers: Mutex<BTreeMap<u64, Answer>>,
    came: Condvar,
}

/// The numbers that tell a rank's operations apart.
#[derive(Debug, Default)]
struct Numbers {
    request: u64,
    collective: u64,
    /// By sender and receiver.
    pairs: BTreeMap<(usize, usize), u64>,
}

/// One rank of a communicator.
#[derive(Debug)]
pub(crate) struct Rank {
    pub(crate) id: UniqueId,
    pub(crate) ranks: usize,
    pub(crate) rank: usize,
    /// The ordinal of its device.
    pub(crate) device: i32,
    connection: Mutex<TcpStream>,
    inbox: Arc<Inbox>,
    numbers: Mutex<Numbers>,
}

/// A call of an operation; addresses are of device memory.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) rank: Arc<Rank>,
    request: Request,
    pub(crate) send: u64,
    pub(crate) receive: u64,
}

impl Rank {
    /// Connects to the hub of `id`. The communicator is usable when the others have connected, too; see
    /// [`Rank::assembled`].
    pub(crate) fn connect(id: UniqueId, ranks: usize, rank: usize, device: i32) -> io::Result<Arc<Self>> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, id.port))?;
        connection.set_nodelay(true)?;
        send(&mut connection, &Hello { nonce: id.nonce, ranks, rank }, &[])?;
        let inbox = Arc::new(Inbox::default());
        let (filled, mut reader) = (Arc::clone(&inbox), connection.try_clone()?);
        thread::spawn(move || {
            while let Ok((Reply { id, failure }, bytes)) = receive::<Reply>(&mut reader) {
                let mut answers = filled.answers.lock().unwrap_or_else(PoisonError::into_inner);
                answers.insert(id, failure.map_or(Ok(bytes), Err));
                filled.came.notify_all();
            }
        });
        let (connection, numbers) = (Mutex::new(connection), Mutex::default());
        Ok(Arc::new(Self { id, ranks, rank, device, connection, inbox, numbers }))
    }

    /// Waits until all ranks have connected; tells whether they did.
    pub(crate) fn assembled(&self, patience: Duration) -> bool {
        self.inbox.take(0, patience).is_some()
    }

    /// A call of an operation, with the numbers of its turn. `count` is as the program passed it.
    pub(crate) fn call(
        self: &Arc<Self>,
        kind: Kind,
        data_type: DataType,
        count: usize,
        [send, receive]: [u64; 2],
    ) -> Call {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.request += 1;
        let id = numbers.request;
        let pair = match kind {
            Kind::Send { to } => Some((self.rank, to)),
            Kind::Receive { from } => Some((from, self.rank)),
            _ => None,
        };
        let counter = match pair {
            Some(pair) => numbers.pairs.entry(pair).or_default(),
            None => &mut numbers.collective,
        };
        *counter += 1;
        let number = *counter;
        let meeting = pair.map_or(Meeting::All { number }, |(from, to)| Meeting::Pair { from, to, number });
        let request = Request { id, meeting, kind, data_type, count };
        Call { rank: Arc::clone(self), request, send, receive }
    }

    /// The others see that this rank left.
    pub(crate) fn leave(&self) {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // A connection that is gone needs no end.
        let _: io::Result<()> = connection.shutdown(Shutdown::Both);
    }
}

impl Inbox {
    /// The answer to a request, if it comes within `patience`.
    fn take(&self, request: u64, patience: Duration) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let absent = |answers: &mut BTreeMap<u64, Answer>| !answers.contains_key(&request);
        let waited = self.came.wait_timeout_while(answers, patience, absent);
        waited.unwrap_or_else(PoisonError::into_inner).0.remove(&request)
    }
}

impl Call {
    pub(crate) fn name(&self) -> String {
        format!("{} of rank {}", self.request.kind.name(), self.rank.rank)
    }

    /// Whether the other call is another rank's part of the same operation.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.rank.id == other.rank.id && self.request.meeting == other.request.meeting
    }

    /// Bytes that this rank reads from `send`.
    pub(crate) fn sent_bytes(&self) -> usize {
        let Request { kind, data_type, count, .. } = self.request;
        let elements = match kind {
            Kind::ReduceScatter(_) => count * self.rank.ranks,
            Kind::Broadcast { root } if root != self.rank.rank => 0,
            Kind::Receive { .. } => 0,
            _ => count,
        };
        elements * data_type.bytes()
    }

    /// Bytes that this rank writes to `receive`.
    pub(crate) fn received_bytes(&self) -> usize {
        let Request { kind, data_type, count, .. } = self.request;
        let elements = match kind {
            Kind::AllGather => count * self.rank.ranks,
            Kind::Reduce { root, .. } if root != self.rank.rank => 0,
            Kind::Send { .. } => 0,
            _ => count,
        };
        elements * data_type.bytes()
    }

    /// Gives this rank's bytes to the hub.
    pub(crate) fn post(&self, bytes: &[u8]) -> io::Result<()> {
        let mut connection = self.rank.connection.lock().unwrap_or_else(PoisonError::into_inner);
        send(&mut *connection, &self.request, bytes)
    }

    /// The hub's answer, if it comes within `patience`.
    pub(crate) fn answer(&self, patience: Duration) -> Option<Answer> {
        self.rank.inbox.take(self.request.id, patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn pair(patience: Duration) -> [Arc<Rank>; 2] {
        let id = UniqueId::create(patience).expect("a loopback port");
        let id = UniqueId::decode(&id.encode()).expect("our own");
        let ranks = [0, 1].map(|rank| Rank::connect(id, 2, rank, 0).expect("the hub listens"));
        assert!(ranks.iter().all(|rank| rank.assembled(PATIENCE)));
        ranks
    }

    #[test]
    fn two_ranks_in_one_thread_reduce_and_talk() {
        let ranks = pair(PATIENCE);
        let sum = Kind::AllReduce(Operator::Sum);
        let calls = ranks.each_ref().map(|rank| rank.call(sum, DataType::U8, 2, [0, 0]));
        for (call, bytes) in calls.iter().zip([[1, 2], [10, 20]]) {
            call.post(&bytes).expect("connected");
        }
        for call in &calls {
            assert_eq!(call.answer(PATIENCE), Some(Ok(vec![11, 22])));
        }
        let send = ranks[1].call(Kind::Send { to: 0 }, DataType::U8, 3, [0, 0]);
        let receive = ranks[0].call(Kind::Receive { from: 1 }, DataType::U8, 3, [0, 0]);
        receive.post(&[]).expect("connected");
        assert_eq!(receive.answer(Duration::from_millis(20)), None);
        send.post(b"abc").expect("connected");
        assert_eq!(receive.answer(PATIENCE), Some(Ok(b"abc".to_vec())));
    }

    #[test]
    fn a_rank_that_does_not_come_is_named() {
        let ranks = pair(Duration::from_millis(100));
        let call = ranks[0].call(Kind::AllGather, DataType::U8, 1, [0, 0]);
        call.post(&[1]).expect("connected");
        let Some(Err(Failure::Missing(text))) = call.answer(PATIENCE) else {
            panic!("an answer with a failure")
        };
        assert!(text.starts_with("rank 1 did not come"), "{text}");
    }
}
