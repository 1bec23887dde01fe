//! The settings of the floors below, joined; reads TOML and `--set`.
