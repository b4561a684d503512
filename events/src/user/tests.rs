use proptest::prelude::*;

use super::{
    Activated, ClaimGranted, ClaimReleased, Command, Effect, Event, Field, LoggedIn, Phase, Registered,
    RegistrationRefused, Role, User, canonical, claim_of,
};
use crate::{
    EffectId,
    testing::{World, effect, given, id, illegal, samples::registered, time},
};

fn asked() -> Vec<Vec<Event>> {
    vec![vec![registered().into()]]
}

fn granted(field: Field) -> Event {
    ClaimGranted { field }.into()
}

fn named() -> Vec<Vec<Event>> {
    [asked(), vec![vec![granted(Field::Username)]]].concat()
}

fn active() -> Vec<Vec<Event>> {
    [named(), vec![vec![granted(Field::Email), Activated {}.into()]]].concat()
}

fn refused(field: Field) -> Event {
    RegistrationRefused { field }.into()
}

fn claim(effect: EffectId, granted: bool) -> Command {
    Command::RecordClaim { effect, granted }
}

#[test]
fn an_account_becomes_active_once_its_values_are_claimed() {
    let world = given::<User>(vec![]).when(Command::Register(registered())).then(vec![registered().into()]);
    let name = Effect::Claim { field: Field::Username, value: "ada".to_owned(), holder: id(1) };
    assert_eq!(world.pending()[0].effect, name);
    let world = world.when(claim(effect(1, 0), true)).then(vec![granted(Field::Username)]);
    let email = Effect::Claim { field: Field::Email, value: "ada@example.org".to_owned(), holder: id(1) };
    assert_eq!(world.pending()[0].effect, email);
    let world = world.when(claim(effect(2, 0), true)).then(vec![granted(Field::Email), Activated {}.into()]);
    assert_eq!(world.pending(), vec![]);
    world.when(Command::LogIn { at: time(4) }).then(vec![LoggedIn {}.into()]);
}

#[test]
fn a_taken_name_refuses_the_account() {
    let world = given::<User>(asked()).when(claim(effect(1, 0), false)).then(vec![refused(Field::Username)]);
    assert_eq!(world.pending(), vec![], "there is nothing to give back");
    world.when(Command::LogIn { at: time(3) }).then_refused("user_not_found");
}

#[test]
fn a_taken_address_gives_the_name_back() {
    let world = given::<User>(named()).when(claim(effect(2, 0), false)).then(vec![refused(Field::Email)]);
    let release = Effect::Release { field: Field::Username, value: "ada".to_owned(), holder: id(1) };
    assert_eq!(world.pending()[0].effect, release);
    let world = world
        .when(Command::RecordRelease { effect: effect(3, 0) })
        .then(vec![ClaimReleased { field: Field::Username }.into()]);
    assert_eq!(world.pending(), vec![]);
    world.when(Command::RecordRelease { effect: effect(3, 0) }).then_nothing();
}

#[test]
fn a_registration_said_twice_is_one_account() {
    given::<User>(asked()).when(Command::Register(registered())).then_nothing();
    let other = Registered { role: Role::User, ..registered() };
    given::<User>(asked()).when(Command::Register(other)).then_refused("user_exists");
}

#[test]
fn outcomes_of_other_debts_are_ignored() {
    given::<User>(named()).when(claim(effect(1, 0), true)).then_nothing();
    given::<User>(active()).when(claim(effect(2, 0), false)).then_nothing();
    given::<User>(vec![]).when(claim(effect(1, 0), true)).then_nothing();
    given::<User>(active()).when(Command::RecordRelease { effect: effect(2, 0) }).then_nothing();
}

#[test]
fn only_active_accounts_log_in() {
    given::<User>(vec![]).when(Command::LogIn { at: time(1) }).then_refused("user_not_found");
    given::<User>(asked()).when(Command::LogIn { at: time(1) }).then_refused("user_not_found");
}

#[test]
fn values_that_make_no_sense_are_refused() {
    for name in ["", " ada", "ada\n", "a\0b", &"x".repeat(256)] {
        let command = Command::Register(Registered { username: name.to_owned(), ..registered() });
        given::<User>(vec![]).when(command).then_refused("bad_username");
    }
    for email in ["", "ada", "@example.org", "ada@", "a da@example.org", &format!("a@{}", "x".repeat(254))] {
        let command = Command::Register(Registered { email: email.to_owned(), ..registered() });
        given::<User>(vec![]).when(command).then_refused("bad_email");
    }
}

#[test]
fn one_value_has_one_claim_however_it_is_written() {
    let key = [7; 32];
    let claim = |field, value: &str| claim_of(&key, field, &canonical(value));
    assert_eq!(claim(Field::Username, " ADA "), claim(Field::Username, "ada"));
    assert_ne!(claim(Field::Username, "ada"), claim(Field::Email, "ada"));
    assert_ne!(claim(Field::Username, "ada"), claim_of(&[8; 32], Field::Username, "ada"));
}

#[test]
fn histories_that_are_no_accounts_are_refused() {
    let words = |event: &str, state: &str, version| {
        format!("{event} cannot follow {state} in a user history (version {version}, event 0)")
    };
    let claiming = "an account whose values are being claimed";
    illegal::<User>(vec![], Activated {}, &words("Activated", "no account", 1));
    illegal::<User>(asked(), registered(), &words("Registered", claiming, 2));
    illegal::<User>(asked(), Activated {}, &words("Activated", claiming, 2));
    illegal::<User>(asked(), granted(Field::Email), &words("ClaimGranted", claiming, 2));
    illegal::<User>(named(), refused(Field::Username), &words("RegistrationRefused", claiming, 3));
    illegal::<User>(active(), refused(Field::Email), &words("RegistrationRefused", "an active account", 4));
    let lost = [asked(), vec![vec![refused(Field::Username)]]].concat();
    let released = ClaimReleased { field: Field::Username };
    illegal::<User>(lost, released.clone(), &words("ClaimReleased", "a refused account", 3));
    illegal::<User>(asked(), released, &words("ClaimReleased", claiming, 2));
}

fn outcome_of(effect: &Effect, event: &Event) -> bool {
    match effect {
        Effect::Claim { .. } => matches!(event, Event::ClaimGranted(_) | Event::RegistrationRefused(_)),
        Effect::Release { .. } => matches!(event, Event::ClaimReleased(_)),
    }
}

proptest! {
    #[test]
    fn any_account_keeps_its_promises(steps in proptest::collection::vec((0..6_u8, 0..5_u64), 0..20)) {
        let mut world = World::<User>::new(outcome_of);
        world.send(Command::Register(registered())).expect("registered");
        for (kind, version) in steps {
            let debt = world.pending().first().map_or(effect(version, 0), |debt| debt.id);
            let _ = world.send(match kind {
                0 => claim(debt, true),
                1 => claim(debt, false),
                2 => Command::RecordRelease { effect: debt },
                3 => Command::LogIn { at: time(9) },
                4 => claim(effect(version, 0), true),
                _ => Command::Register(registered()),
            });
            let waits = matches!(world.state.phase, Phase::Claiming { .. } | Phase::Refused { release: Some(_), .. });
            prop_assert_eq!(world.pending().is_empty(), !waits, "it goes on until it is active or refused");
        }
        world.check();
    }
}
