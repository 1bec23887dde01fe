//! What ranks and their hub say to each other, over a loopback connection.
//!
//! A message is a JSON head and raw bytes, each behind its length as 8 little-endian bytes.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::reduce::{DataType, Operator};

/// The first message of a rank.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Of the unique id, so that no other program joins by mistake.
    pub(crate) nonce: u64,
    pub(crate) ranks: usize,
    pub(crate) rank: usize,
}

/// What an operation is, besides its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    AllReduce(Operator),
    ReduceScatter(Operator),
    AllGather,
    Broadcast { root: usize },
    Reduce { operator: Operator, root: usize },
    Send { to: usize },
    Receive { from: usize },
}

impl Kind {
    /// NCCL's word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AllReduce(_) => "ncclAllReduce",
            Self::ReduceScatter(_) => "ncclReduceScatter",
            Self::AllGather => "ncclAllGather",
            Self::Broadcast { .. } => "ncclBroadcast",
            Self::Reduce { .. } => "ncclReduce",
            Self::Send { .. } => "ncclSend",
            Self::Receive { .. } => "ncclRecv",
        }
    }
}

/// Where requests meet: the n-th collective of a communicator, or the n-th message from one rank to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Meeting {
    All { number: u64 },
    Pair { from: usize, to: usize, number: u64 },
}

/// A rank's part of an operation; its bytes are what the rank gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The rank's own number for it.
    pub(crate) id: u64,
    pub(crate) meeting: Meeting,
    pub(crate) kind: Kind,
    pub(crate) data_type: DataType,
    /// As the program passed it.
    pub(crate) count: usize,
}

/// The hub's answer; its bytes are what the rank gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) id: u64,
    pub(crate) failure: Option<Failure>,
}

/// Why an operation did not happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The ranks do not agree on what they do.
    Mismatch(String),
    /// A rank did not come in time, or left.
    Missing(String),
}

/// Sends one message.
pub(crate) fn send(to: &mut impl Write, head: &impl Serialize, bytes: &[u8]) -> io::Result<()> {
    let head = serde_json::to_vec(head)?;
    for part in [&head, bytes] {
        to.write_all(&(part.len() as u64).to_le_bytes())?;
        to.write_all(part)?;
    }
    to.flush()
}

/// Waits for one message.
pub(crate) fn receive<H: DeserializeOwned>(from: &mut impl Read) -> io::Result<(H, Vec<u8>)> {
    let head = receive_part(from, 1 << 16)?;
    let bytes = receive_part(from, 1 << 40)?;
    Ok((serde_json::from_slice(&head)?, bytes))
}

fn receive_part(from: &mut impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a part of {length} bytes")));
    }
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_and_a_cut_one_is_an_error() {
        let meeting = Meeting::Pair { from: 0, to: 1, number: 3 };
        let request =
            Request { id: 7, meeting, kind: Kind::Send { to: 1 }, data_type: DataType::F32, count: 2 };
        let mut wire = Vec::new();
        send(&mut wire, &request, b"12345678").expect("memory takes it");
        let (got, bytes) = receive::<Request>(&mut wire.as_slice()).expect("whole");
        assert_eq!((got, bytes.as_slice()), (request, &b"12345678"[..]));
        assert!(receive::<Request>(&mut &wire[..wire.len() - 1]).is_err());
    }
}
