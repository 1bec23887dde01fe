//! Dataset lines to tokens to forests, against brute force and stored goldens.

mod pack;
