//! One op a file: contract, CPU form.
