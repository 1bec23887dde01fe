//! Graphs: captured work, and its launch as operations of streams.
//!
//! Each chain of a graph's nodes becomes a stream of its own that the executable graph keeps. A launch makes
//! these streams wait for the launching one, issues the nodes with their dependencies as waits, and makes the
//! launching stream wait for all of them. So a graph's nodes run lazily, in the worst legal order, and are
//! checked for races like everything else; and two launches of one executable graph run one after the other,
//! as documented.

use std::sync::Arc;

use crate::capture::{Mode, Node};
use crate::driver::Driver;
use crate::status::{Outcome, Status};
use crate::streams::{Kind, StreamId};
use crate::work::Work;

/// Captured nodes; each stands behind those that it runs after.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    pub(crate) nodes: Arc<Vec<Node>>,
}

/// A graph ready to launch.
#[derive(Debug)]
pub(crate) struct Executable {
    pub(crate) context: usize,
    nodes: Arc<Vec<Node>>,
    /// The stream of each node.
    streams: Vec<StreamId>,
}

/// For each node the number of its chain: that of a predecessor whose last node it continues, or a new one.
fn chains(nodes: &[Node]) -> Vec<usize> {
    let mut ends: Vec<usize> = Vec::new();
    let mut chain_of = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let continued = node
            .after
            .iter()
            .map(|&before| chain_of[before])
            .find(|&chain: &usize| node.after.contains(&ends[chain]));
        let chain = continued.unwrap_or(ends.len());
        if chain == ends.len() {
            ends.push(index);
        } else {
            ends[chain] = index;
        }
        chain_of.push(chain);
    }
    chain_of
}

/// The known flags: automatic free on launch, upload, node priorities. Launch from the device is not
/// modelled.
const INSTANTIATE_FLAGS: u64 = 1 | 2 | 8;

impl Driver {
    pub(crate) fn capture_begin(&mut self, stream: StreamId, mode: u32) -> Outcome {
        let mode = match mode {
            0 => Mode::Global,
            1 => Mode::ThreadLocal,
            2 => Mode::Relaxed,
            _ => return Err(Status::ERROR_INVALID_VALUE),
        };
        if self.streams.kind(stream) == Kind::Legacy {
            return Err(Status::ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
        self.captures.begin(stream, mode)
    }

    pub(crate) fn capture_end(&mut self, stream: StreamId) -> Outcome<usize> {
        let nodes = Arc::new(self.captures.end(stream)?);
        Ok(self.graphs.insert(Graph { nodes }))
    }

    pub(crate) fn instantiate(&mut self, graph: usize, flags: u64) -> Outcome<usize> {
        let context = self.contexts.healthy()?;
        if flags & !INSTANTIATE_FLAGS != 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let nodes = Arc::clone(&self.graphs.get(graph)?.nodes);
        let chain_of = chains(&nodes);
        let count = chain_of.iter().max().map_or(0, |&last| last + 1);
        let made: Vec<StreamId> =
            (0..count).map(|_| self.streams.create(context, Kind::NonBlocking)).collect();
        let streams = chain_of.into_iter().map(|chain| made[chain]).collect();
        Ok(self.executables.insert(Executable { context, nodes, streams }))
    }

    /// Takes the nodes of another graph of the same form, as `cuGraphExecUpdate` does.
    pub(crate) fn update(&mut self, executable: usize, graph: usize) -> Outcome {
        let nodes = Arc::clone(&self.graphs.get(graph)?.nodes);
        let executable = self.executables.get_mut(executable)?;
        let same_kind = |a: &Work, b: &Work| std::mem::discriminant(a) == std::mem::discriminant(b);
        let fits = nodes.len() == executable.nodes.len()
            && nodes
                .iter()
                .zip(&*executable.nodes)
                .all(|(a, b)| a.after == b.after && same_kind(&a.work, &b.work));
        if !fits {
            return Err(Status::ERROR_GRAPH_EXEC_UPDATE_FAILURE);
        }
        executable.nodes = nodes;
        Ok(())
    }

    pub(crate) fn graph_launch(&mut self, executable: usize, stream: StreamId) -> Outcome {
        let Executable { nodes, streams, .. } = self.executables.get(executable)?;
        let (nodes, streams) = (Arc::clone(nodes), streams.clone());
        if self.captures.id(stream).is_some() {
            // A child graph: its nodes are captured in their order.
            for node in nodes.iter() {
                self.submit(stream, node.work.clone())?;
            }
            return Ok(());
        }
        let start = self.streams.tail(stream);
        let mut points = Vec::with_capacity(nodes.len());
        for (node, &own) in nodes.iter().zip(&streams) {
            self.streams.wait(own, &start);
            for &before in &node.after {
                let point = &points[before];
                self.streams.wait(own, point);
            }
            points.push(self.streams.issue(own, node.work.clone()));
        }
        for point in &points {
            self.streams.wait(stream, point);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diamond_has_two_chains() {
        let node = |after: &[usize]| Node {
            work: Work::Fill { to: 0, pattern: vec![0], count: 1 },
            after: after.iter().copied().collect(),
        };
        assert_eq!(chains(&[node(&[]), node(&[0]), node(&[0]), node(&[1, 2])]), [0, 0, 1, 0]);
        assert_eq!(chains(&[node(&[]), node(&[])]), [0, 1]);
    }
}
