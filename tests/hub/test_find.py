import pytest

import samevoice
from samevoice.hub import HubError, cards, find_model
from samevoice.hub import cache as store

HINT = f"using {cards.SHIPPED}, which is at hand; {cards.DEFAULT} errs far less: samevoice models pull"


@pytest.mark.parametrize("offline", [False, True])
def test_default_is_at_hand_without_a_network(cache, no_network, offline):
    said = []
    card, path = find_model("default", offline=offline, say=said.append)
    assert (card.name, path, said) == (cards.SHIPPED, store.model_path(card), [HINT])
    assert not cache.exists()


def test_default_is_the_best_once_it_has_been_pulled(cache, no_network):
    target = store.model_path(cards.find(cards.DEFAULT))
    target.parent.mkdir(parents=True)
    target.write_bytes(b"a model")
    said = []
    card, path = find_model("default", say=said.append)
    assert (card.name, path, said) == (cards.DEFAULT, target, [])


def test_a_card_that_is_named_is_that_card(cache):
    with pytest.raises(HubError, match=f"samevoice models pull {cards.DEFAULT}"):
        find_model(cards.DEFAULT, offline=True)
    assert find_model(cards.SHIPPED, offline=True)[0].name == cards.SHIPPED
    assert samevoice.load(cards.SHIPPED).card.name == cards.SHIPPED
