//! Packing: examples become a token forest, in their order, sharing the prefixes they have in common.
//!
//! Only what a loss needs enters: the tokens after an example's last predicting position are dropped.
//! With sharing, the forest is a radix trie and has one token for each distinct prefix.

use std::ops::Range;

use super::Tokenized;
use crate::tensor::{Forest, Site};

/// The forest of `examples`, each with its place in the update.
///
/// Segments are in pre-order, children in the order of the first example that uses them. A segment also
/// ends where its first example ends, so that `Segment::example` holds for all of its tokens.
pub fn forest(examples: &[(u32, &Tokenized)], share_prefixes: bool) -> Forest {
    let mut packer = Packer { examples, forest: Forest::default(), rows: vec![Vec::new(); examples.len()] };
    let members: Vec<usize> =
        (0..examples.len()).filter(|&member| !packer.tokens(member).is_empty()).collect();
    if share_prefixes {
        packer.grow(members);
    } else {
        members.into_iter().for_each(|member| packer.grow(vec![member]));
    }
    packer.finish()
}

/// Splits `examples` into consecutive groups whose forests have at most `budget_tokens` tokens.
///
/// Groups are as long as they can be. An example that is longer than the budget goes alone.
pub fn micro_batches(
    examples: &[(u32, &Tokenized)],
    budget_tokens: usize,
    share_prefixes: bool,
) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut group_tokens = 0;
    for (i, (_, example)) in examples.iter().enumerate() {
        let tokens = example.needed();
        let start = groups.last().map_or(0, |group| group.start);
        let shared = examples[start..i].iter().map(|(_, earlier)| common_prefix(tokens, earlier.needed()));
        let shared = if share_prefixes { shared.max().unwrap_or(0) } else { 0 };
        let added = tokens.len() - shared;
        match groups.last_mut() {
            Some(group) if group_tokens + added <= budget_tokens => {
                group.end = i + 1;
                group_tokens += added;
            }
            _ => {
                groups.push(i..i + 1);
                group_tokens = tokens.len();
            }
        }
    }
    groups
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

struct Packer<'a> {
    examples: &'a [(u32, &'a Tokenized)],
    forest: Forest,
    /// For each example, the forest's token at each of its positions.
    rows: Vec<Vec<u32>>,
}

/// Examples that agree before `depth` and go on below `parent`.
struct Branch {
    members: Vec<usize>,
    depth: usize,
    parent: Option<u32>,
}

impl<'a> Packer<'a> {
    fn tokens(&self, member: usize) -> &'a [u32] {
        self.examples[member].1.needed()
    }

    /// Adds the trie of `members`, none of which is empty.
    fn grow(&mut self, members: Vec<usize>) {
        // a stack instead of recursion: the depth of a trie is the data's to choose
        let mut stack = self.fork(members, 0, None);
        while let Some(Branch { members, depth, parent }) = stack.pop() {
            let first = self.tokens(members[0]);
            let end = members[1..].iter().fold(first.len(), |end, &member| {
                let tokens = self.tokens(member);
                let agree = depth + common_prefix(&first[depth..], &tokens[depth..]);
                if agree == tokens.len() { end } else { end.min(agree) }
            });
            let place = self.examples[members[0]].0;
            let segment = self.forest.push(&first[depth..end], parent, depth as u32, place);
            let start = self.forest.segments[segment as usize].start;
            for &member in &members {
                let used = self.tokens(member).len().min(end) - depth;
                self.rows[member].extend(start..start + used as u32);
            }
            let rest = members.into_iter().filter(|&member| self.tokens(member).len() > end).collect();
            stack.extend(self.fork(rest, end, Some(segment)));
        }
    }

    /// The branches of `members` by their token at `depth`; the one that comes first stands last.
    fn fork(&self, members: Vec<usize>, depth: usize, parent: Option<u32>) -> Vec<Branch> {
        let mut branches: Vec<Branch> = Vec::new();
        for member in members {
            let token = self.tokens(member)[depth];
            match branches.iter_mut().find(|branch| self.tokens(branch.members[0])[depth] == token) {
                Some(branch) => branch.members.push(member),
                None => branches.push(Branch { members: vec![member], depth, parent }),
            }
        }
        branches.reverse();
        branches
    }

    fn finish(mut self) -> Forest {
        for ((place, example), rows) in self.examples.iter().zip(&self.rows) {
            self.forest.sites.extend(example.losses().map(|(position, target)| Site {
                token: rows[position],
                target,
                weight: example.weight,
                smoothing: example.smoothing,
                example: *place,
            }));
        }
        self.forest.sites.sort_by_key(|site| (site.token, site.example));
        self.forest
    }
}
