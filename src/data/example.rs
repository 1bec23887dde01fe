//! One example as token ids and targets.

/// A tokenised example.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokenized {
    /// Token ids, `[T]`.
    pub input_ids: Vec<u32>,
    /// `labels[i]` is the target for input i, predicted from position i-1; `None` carries no loss, and
    /// `labels[0]` never carries one. `[T]`
    pub labels: Vec<Option<u32>>,
    /// Weight of each of its losses in the update, above 0.
    pub weight: f32,
    /// Label smoothing of each of its losses, in [0, 1).
    pub smoothing: f32,
}

impl Tokenized {
    /// A prompt: all of its tokens are needed, and what its last one predicts is asked for. It must have one.
    pub fn prompt(tokens: &[u32]) -> Self {
        // What is predicted does not matter; any id does.
        let mut labels = vec![None; tokens.len()];
        labels.push(Some(tokens[0]));
        Self { input_ids: [tokens, &tokens[..1]].concat(), labels, weight: 1.0, smoothing: 0.0 }
    }

    /// The example without its first `tokens`, none of which predicts with a loss.
    #[must_use]
    pub fn without_first(&self, tokens: usize) -> Self {
        let (input_ids, labels) = (self.input_ids[tokens..].to_vec(), self.labels[tokens..].to_vec());
        Self { input_ids, labels, ..*self }
    }

    /// The inputs that some loss needs: those before its last target.
    pub fn needed(&self) -> &[u32] {
        let last = self.labels.iter().rposition(Option::is_some).unwrap_or(0);
        &self.input_ids[..last]
    }

    /// The (predicting position, target) of each loss, ascending.
    pub fn losses(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.labels.iter().enumerate().skip(1).filter_map(|(i, label)| label.map(|target| (i - 1, target)))
    }

    /// Number of targets.
    pub fn trained_tokens(&self) -> usize {
        self.losses().count()
    }
}
