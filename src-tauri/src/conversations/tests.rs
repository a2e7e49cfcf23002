use super::*;
use crate::contract::{ChatSettings, Message, Policy, Role};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::new(folder.path());
    (folder, store)
}

fn conversation(id: &str, title: &str, updated_at: u64, said: &str) -> Conversation {
    let message = Message {
        id: "m1".to_owned(),
        role: Role::User,
        content: said.to_owned(),
        tokens: None,
        stats: None,
        reason: None,
        error: None,
    };
    Conversation {
        id: id.to_owned(),
        title: title.to_owned(),
        created_at: 1,
        updated_at,
        messages: vec![message],
        settings: ChatSettings::default(),
        policy: Policy::default(),
    }
}

fn ids(list: &[ConversationSummary]) -> Vec<&str> {
    list.iter().map(|entry| entry.id.as_str()).collect()
}

#[test]
fn conversations_are_found_again() {
    let (folder, store) = store();
    assert!(store.list().expect("an empty list").is_empty());
    let first = conversation("a", "Bread", 10, "How long does bread rise?");
    store.save(&first).expect("saved");
    store.save(&conversation("b", "Rivers", 20, "Where does the Seine end?")).expect("saved");
    let again = Store::new(folder.path());
    assert_eq!(ids(&again.list().expect("a list")), ["b", "a"]);
    assert_eq!(again.get("a").expect("there"), first);
    again.rename("a", " Sourdough ").expect("renamed");
    assert_eq!(again.get("a").expect("there").title, "Sourdough");
    again.delete("b").expect("deleted");
    again.delete("b").expect("nothing left to delete");
    assert_eq!(ids(&again.list().expect("a list")), ["a"]);
    assert_eq!(again.get("b").expect_err("gone").code, "not_found");
}

#[test]
fn renaming_loses_nothing_that_is_said_meanwhile() {
    let (_folder, store) = store();
    store.save(&conversation("a", "Bread", 0, "0")).expect("saved");
    std::thread::scope(|scope| {
        scope.spawn(|| (0..40).for_each(|_| store.rename("a", "Sourdough").expect("renamed")));
        for n in 1..40 {
            let said = conversation("a", "Bread", n, &n.to_string());
            store.save(&said).expect("saved");
            assert_eq!(store.get("a").expect("there").messages, said.messages);
        }
    });
}

#[test]
fn search_looks_at_titles_and_messages() {
    let (_folder, store) = store();
    store.save(&conversation("a", "Bread", 10, "How long does bread rise?")).expect("saved");
    let long = format!("{} the Île de la Cité {}", "before ".repeat(20), "after ".repeat(20));
    store.save(&conversation("b", "Rivers", 20, &long)).expect("saved");
    assert_eq!(ids(&store.search("BREAD").expect("found")), ["a"]);
    let found = store.search("île").expect("found");
    let excerpt = found[0].excerpt.as_deref().expect("a place in a message");
    assert!(excerpt.contains("Île de la Cité") && excerpt.starts_with('…') && excerpt.ends_with('…'), "{excerpt}");
    assert_eq!(store.search("rivers").expect("found")[0].excerpt, None);
    assert!(store.search("nowhere").expect("nothing").is_empty());
}

#[test]
fn a_damaged_file_takes_nothing_else_along() {
    let (folder, store) = store();
    store.save(&conversation("a", "Bread", 10, "Hello")).expect("saved");
    let file = folder.path().join("conversations/b.json");
    fs::write(&file, "{\"id\":\"b\"").expect("written");
    let again = Store::new(folder.path());
    assert_eq!(ids(&again.list().expect("a list")), ["a"]);
    let aside = file.with_extension("json.corrupt");
    assert!(aside.exists());
    assert_eq!(again.take_damaged(), [aside]);
    assert!(again.take_damaged().is_empty(), "it is told once");
}

#[test]
fn ids_are_no_paths() {
    let (_folder, store) = store();
    for id in ["", "../settings", "a/b", "a.b", "é"] {
        assert_eq!(store.get(id).expect_err("refused").code, "invalid", "{id:?}");
    }
}
