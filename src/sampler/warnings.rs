//! What a user should know about an order that works, but not as its name says.

use super::{Labels, Settings, Strategy};

/// One sentence for each thing that makes a run of `epochs` epochs less than its strategy promises.
pub fn warnings(settings: &Settings, labels: &Labels<'_>, epochs: u32) -> Vec<String> {
    let strategy = settings.strategy;
    let mut warnings = Vec::new();
    if epochs > 1
        && let Some(effect) = effect_of_repeating(strategy)
    {
        warnings.push(format!(
            "strategy `{strategy}` over {epochs} epochs: {effect}; the paper of these orders trains one epoch"
        ));
    }
    if strategy.needs_difficulties()
        && let Some([first, rest @ ..]) = labels.difficulties
        && !rest.is_empty()
        && rest.iter().all(|d| d == first)
    {
        warnings.push(format!(
            "every example has difficulty {first}: `{strategy}` has nothing to go by but the order of the file"
        ));
    }
    if strategy.needs_categories()
        && let Some([first, rest @ ..]) = labels.categories
        && !rest.is_empty()
        && rest.iter().all(|c| c == first)
    {
        warnings.push(format!("every example has category `{first}`: `{strategy}` has nothing to order by"));
    }
    warnings
}

fn effect_of_repeating(strategy: Strategy) -> Option<&'static str> {
    match strategy {
        Strategy::Sequential | Strategy::Random | Strategy::Mixture => None,
        Strategy::Blocked => Some("a second pass over the blocks makes it a form of interleaving"),
        Strategy::BlockedCurriculum => Some(
            "a second pass over the blocks makes it a form of interleaving, and each block jumps back to easy",
        ),
        Strategy::Interleaved => Some("each epoch adds its own rounds to `parts`"),
        Strategy::Curriculum
        | Strategy::InterleavedCurriculum
        | Strategy::Tiered
        | Strategy::InterleavedTiered
        | Strategy::Competence => Some("each epoch jumps back to easy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(strategy: Strategy, difficulties: &[f64], epochs: u32) -> usize {
        let categories: Vec<String> = (0..difficulties.len()).map(|i| format!("c{i}")).collect();
        let labels =
            Labels { n: difficulties.len(), categories: Some(&categories), difficulties: Some(difficulties) };
        warnings(&Settings { strategy, ..Settings::default() }, &labels, epochs).len()
    }

    #[test]
    fn repeating_warns_where_it_changes_the_order() {
        for strategy in Strategy::ALL {
            let plain = matches!(strategy, Strategy::Sequential | Strategy::Random | Strategy::Mixture);
            assert_eq!(count(strategy, &[1.0, 2.0], 1), 0, "{strategy}");
            assert_eq!(count(strategy, &[1.0, 2.0], 2), usize::from(!plain), "{strategy}");
        }
    }

    #[test]
    fn equal_labels_warn_where_they_are_used() {
        assert_eq!(count(Strategy::Curriculum, &[3.0, 3.0], 1), 1);
        assert_eq!(count(Strategy::Curriculum, &[3.0], 1), 0);
        assert_eq!(count(Strategy::Blocked, &[3.0, 3.0], 1), 0);
        let same = ["a".to_owned(), "a".to_owned()];
        let labels = Labels { n: 2, categories: Some(&same), difficulties: None };
        let blocked = Settings { strategy: Strategy::Blocked, ..Settings::default() };
        assert!(warnings(&blocked, &labels, 1)[0].contains("category `a`"));
    }
}
