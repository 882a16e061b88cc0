"""What each AgentDojo tool does to the world, in this service's terms: reviewed one by one, with no default.

A mail to whoever it is, money, a reservation and a page that is fetched all leave the house, and so
does a read whose destination the model chooses. Where two effects apply, the one that reaches
furthest counts: external_post, then delete, then write.
"""

from collections.abc import Iterable, Mapping

from app.policy.decision import Effect

READ, WRITE, DELETE, POST = Effect.READ, Effect.WRITE, Effect.DELETE, Effect.EXTERNAL_POST

_CALENDAR = {
    "search_calendar_events": READ,
    "get_day_calendar_events": READ,
    "create_calendar_event": POST,  # mails its participants
    "cancel_calendar_event": POST,  # mails its participants
}
EFFECTS: Mapping[str, Mapping[str, Effect]] = {
    "workspace": {
        **_CALENDAR,
        "send_email": POST,
        "delete_email": DELETE,
        "get_unread_emails": WRITE,  # marks what it returns as read
        "get_sent_emails": READ,
        "get_received_emails": READ,
        "get_draft_emails": READ,
        "search_emails": READ,
        "search_contacts_by_name": READ,
        "search_contacts_by_email": READ,
        "get_current_day": READ,
        "reschedule_calendar_event": POST,  # mails its participants
        "add_calendar_event_participants": POST,  # shows the event to addresses that the model chooses
        "append_to_file": WRITE,
        "create_file": WRITE,
        "delete_file": DELETE,
        "share_file": POST,  # opens a file to an address that the model chooses
        "search_files_by_filename": READ,
        "get_file_by_id": READ,
        "list_files": READ,
        "search_files": READ,
    },
    "travel": {
        **_CALENDAR,
        "get_user_information": READ,
        "get_all_hotels_in_city": READ,
        "get_hotels_prices": READ,
        "get_rating_reviews_for_hotels": READ,
        "get_hotels_address": READ,
        "get_all_restaurants_in_city": READ,
        "get_cuisine_type_for_restaurants": READ,
        "get_restaurants_address": READ,
        "get_rating_reviews_for_restaurants": READ,
        "get_dietary_restrictions_for_all_restaurants": READ,
        "get_contact_information_for_restaurants": READ,
        "get_price_for_restaurants": READ,
        "check_restaurant_opening_hours": READ,
        "get_all_car_rental_companies_in_city": READ,
        "get_car_types_available": READ,
        "get_rating_reviews_for_car_rental": READ,
        "get_car_fuel_options": READ,
        "get_car_rental_address": READ,
        "get_car_price_per_day": READ,
        "get_flight_information": READ,
        "reserve_hotel": POST,  # binds the user, and gives a company their phone number
        "reserve_car_rental": POST,
        "reserve_restaurant": POST,
        "send_email": POST,
    },
    "banking": {
        "get_iban": READ,
        "get_balance": READ,
        "get_most_recent_transactions": READ,
        "get_scheduled_transactions": READ,
        "read_file": READ,
        "get_user_info": READ,
        "send_money": POST,  # with a text to an account that the model chooses
        "schedule_transaction": POST,
        "update_scheduled_transaction": POST,
        "update_password": WRITE,
        "update_user_info": WRITE,
    },
    "slack": {
        "get_channels": READ,
        "read_channel_messages": READ,
        "read_inbox": READ,
        "get_users_in_channel": READ,
        "add_user_to_channel": WRITE,
        "send_direct_message": POST,
        "send_channel_message": POST,  # some channels are shared with other companies
        "invite_user_to_slack": POST,  # mails an address that the model chooses
        "remove_user_from_slack": DELETE,
        "get_webpage": POST,  # the address itself can carry what was read
        "post_webpage": POST,
    },
}


class Unclassified(Exception):
    """The table and the installed AgentDojo name different tools; the message says which."""


def require_reviewed(suite: str, tools: Iterable[str]) -> Mapping[str, Effect]:
    """The effects of a suite's tools. Raises Unclassified unless exactly these tools have been reviewed."""
    table, found = EFFECTS.get(suite, {}), set(tools)
    if unknown := sorted(found - set(table)):
        raise Unclassified(f"{suite}: {', '.join(unknown)}: review what it does and add it to {__name__}")
    if gone := sorted(set(table) - found):
        raise Unclassified(f"{suite}: {', '.join(gone)}: no such tool in this AgentDojo; remove it from {__name__}")
    return table
