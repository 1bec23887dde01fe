//! The `exam` template: a plain prompt for each format, which needs nothing of the model.

use std::fmt::Write;

use super::Rendered;
use crate::data::line::{Instruction, Mcqa, letter};

/// What the prompt of a question ends with.
const CUE: &str = "### Answer:";

/// The question with its options and without the cue; ends with a newline.
pub(super) fn question(mcqa: &Mcqa) -> String {
    let mut text =
        String::from("Give the letter of the best answer to the question. Use only the letters listed.\n\n");
    if let Some(context) = &mcqa.context {
        let _ = writeln!(text, "Context: {context}"); // writing to a String cannot fail
    }
    let _ = writeln!(text, "Question: {}", mcqa.question);
    for (i, option) in mcqa.options.iter().enumerate() {
        let _ = writeln!(text, "{}) {option}", letter(i));
    }
    text
}

/// A question with `answer`; `shots` are solved questions that stand before it.
pub(super) fn mcqa(shots: &[&Mcqa], mcqa: &Mcqa, answer: &str) -> Rendered {
    let solved = shots.iter().map(|shot| format!("{}\n{CUE} {}\n\n", question(shot), letter(shot.answer)));
    let prompt = solved.chain([format!("{}\n{CUE}", question(mcqa))]).collect::<String>();
    Rendered::completion(prompt, &format!(" {answer}"))
}

/// An instruction, its input if there is one, the cue and the output.
pub(super) fn instruction(line: &Instruction) -> Rendered {
    let input = if line.input.trim().is_empty() { String::new() } else { format!("{}\n\n", line.input) };
    Rendered::completion(format!("{}\n\n{input}{CUE}", line.instruction), &format!(" {}", line.output))
}
