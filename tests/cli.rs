//! Transcripts of the command line: what the help says is frozen, so no option changes unseen.

#[test]
fn transcripts() {
    trycmd::TestCases::new().case("tests/cli/*.trycmd");
}
