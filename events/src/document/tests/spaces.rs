//! Documents with vectors in two spaces, and models that come and go.

use super::*;

/// Vectors of a batch in both spaces.
fn in_both(batch: u32, model: &str) -> Embedded {
    let domain = DomainVectors { vectors: blob(90), model: model.to_owned() };
    Embedded { domain: Some(domain), ..embedded(batch) }
}

#[test]
fn a_document_in_two_spaces_names_the_vectors_of_both() {
    let domain = Published {
        domain_vectors: vec![Some(blob(90)), Some(blob(90))],
        domain_model: Some("code".to_owned()),
        ..published()
    };
    given::<Document>([cut(), vec![vec![in_both(0, "code").into()]]].concat())
        .when(step(effect(4, 0), StepOutcome::Embedded(in_both(1, "code"))))
        .then(vec![in_both(1, "code").into(), domain.into()]);
}

#[test]
fn a_domain_model_that_changes_within_a_document_begins_it_anew() {
    let history = [cut(), vec![vec![in_both(0, "code").into()]]].concat();
    given::<Document>(history)
        .when(step(effect(4, 0), StepOutcome::Embedded(in_both(1, "other"))))
        .then(vec![ReembedRequested {}.into()]);
}

#[test]
fn a_domain_model_that_comes_or_goes_within_a_document_begins_it_anew() {
    given::<Document>(half_embedded())
        .when(step(effect(4, 0), StepOutcome::Embedded(in_both(1, "code"))))
        .then(vec![ReembedRequested {}.into()]);
    given::<Document>([cut(), vec![vec![in_both(0, "code").into()]]].concat())
        .when(step(effect(4, 0), StepOutcome::Embedded(embedded(1))))
        .then(vec![ReembedRequested {}.into()]);
}

#[test]
fn a_domain_model_that_was_added_changed_or_removed_asks_for_new_vectors() {
    let of = |domain: Option<&str>| {
        let embed = |batch| domain.map_or_else(|| embedded(batch), |model| in_both(batch, model));
        let published = Published {
            domain_vectors: domain.map(|_| vec![Some(blob(90)); 2]).unwrap_or_default(),
            domain_model: domain.map(str::to_owned),
            ..published()
        };
        let batches = vec![vec![embed(0).into()], vec![embed(1).into(), published.into()]];
        given::<Document>([cut(), batches, vec![vec![Indexed {}.into()]]].concat())
    };
    let reembed = |domain: Option<&str>| Command::Reembed { model: MODEL.into(), domain: domain.map(str::to_owned) };
    for (had, now) in [(None, Some("code")), (Some("code"), Some("other")), (Some("code"), None)] {
        of(had).when(reembed(now)).then(vec![ReembedRequested {}.into()]);
        of(had).when(reembed(had)).then_nothing();
    }
    let old: Command = serde_json::from_value(json!({ "Reembed": { "model": MODEL } })).expect("as it was sent before");
    of(None).when(old).then_nothing();
}
