//! From dataset lines to token forests: formats, templates, loss masks, packing.
