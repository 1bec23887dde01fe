//! A mnemonic's parts: base, modifiers, types.

use super::types::{Space, Type};

/// A mnemonic taken apart: `ld.global.v4.f32` is `ld`, the modifiers `global`, `v4` and the type `f32`.
#[derive(Clone, Debug)]
pub struct Mnemonic<'t> {
    /// As written.
    pub full: &'t str,
    /// Up to the first dot.
    pub base: &'t str,
    /// What is not a type, in the order written.
    pub modifiers: Vec<&'t str>,
    /// The types, in the order written.
    pub types: Vec<Type>,
}

impl<'t> Mnemonic<'t> {
    /// Takes a mnemonic apart.
    pub fn parse(full: &'t str) -> Self {
        let mut parts = full.split('.');
        let base = parts.next().unwrap_or_default();
        let (mut modifiers, mut types) = (Vec::new(), Vec::new());
        for part in parts {
            match Type::parse(part) {
                Some(ty) => types.push(ty),
                None => modifiers.push(part),
            }
        }
        Self { full, base, modifiers, types }
    }

    /// Whether a modifier is there.
    pub fn has(&self, modifier: &str) -> bool {
        self.modifiers.contains(&modifier)
    }

    /// Refuses modifiers that the decoder does not know.
    pub fn allow(&self, known: &[&str]) -> Result<(), String> {
        match self.modifiers.iter().find(|modifier| !known.contains(modifier)) {
            Some(unknown) => Err(format!("modifier `.{unknown}`")),
            None => Ok(()),
        }
    }

    /// The only type; several or none are an error.
    pub fn only_type(&self) -> Result<Type, String> {
        match self.types[..] {
            [ty] => Ok(ty),
            _ => Err(format!("needs one type, has {}", self.types.len())),
        }
    }

    /// The only modifier of a set that is there, as its index.
    pub fn one_of(&self, choices: &[&str]) -> Result<usize, String> {
        let mut found =
            choices.iter().enumerate().filter(|(_, choice)| self.has(choice)).map(|(index, _)| index);
        match (found.next(), found.next()) {
            (Some(index), None) => Ok(index),
            _ => Err(format!("needs one of .{}", choices.join(" ."))),
        }
    }

    /// The state space that is named first; generic where none is.
    pub fn space(&self) -> Space {
        let space = |modifier: &&str| {
            Some(match *modifier {
                "param" | "param::entry" => Space::Param,
                "global" => Space::Global,
                "shared" | "shared::cta" | "shared::cluster" => Space::Shared,
                "local" => Space::Local,
                "const" => Space::Const,
                _ => return None,
            })
        };
        self.modifiers.iter().find_map(space).unwrap_or(Space::Generic)
    }

    /// Elements of a vector: `.v2`, `.v4`, `.v8`, else 1.
    pub fn vector(&self) -> usize {
        [("v2", 2), ("v4", 4), ("v8", 8)]
            .iter()
            .find(|(name, _)| self.has(name))
            .map_or(1, |&(_, count)| count)
    }
}
