//! What a run leaves behind: metrics lines, TensorBoard events, an HTML page.
