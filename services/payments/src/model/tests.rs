//! Every state against everything that the provider may say.

use super::*;

const NOW: Timestamp = Timestamp::from_secs(2_000);
const PAID: Timestamp = Timestamp::from_secs(1_900);

fn merchant() -> Merchant {
    Merchant {
        merchant_id: "190".into(),
        app_id: "wx1".into(),
    }
}

fn payment(state: State) -> Payment {
    let order = Order {
        biz: "test".into(),
        trade_no: "T1".into(),
        account: AccountId::try_from(7).unwrap(),
        amount_fen: 100,
        description: "a book".into(),
        kind: Kind::Native,
    };
    let is_paid = matches!(state, State::Paid | State::Refunded);
    Payment {
        id: PaymentId(9),
        order,
        state,
        prepay: None,
        transaction_id: is_paid.then(|| "42".to_owned()),
        created: Timestamp::from_secs(1_000),
        expire: Timestamp::from_secs(3_000),
        paid: is_paid.then_some(PAID),
        failed: None,
        refunded: None,
        refund: None,
        refund_attempt: 0,
        parked: None,
    }
}

fn refunding(state: State) -> Payment {
    Payment {
        refund: Some(RefundAsked {
            refund_no: "F1".into(),
            reason: "r".into(),
        }),
        refund_attempt: 2,
        ..payment(state)
    }
}

fn trade(state: TradeState) -> TradeFact {
    let is_paid = matches!(state, TradeState::Paid | TradeState::Refunding);
    TradeFact {
        out_trade_no: "M9".into(),
        merchant: merchant(),
        state,
        amount: is_paid.then(|| Amount {
            fen: 100,
            currency: "CNY".into(),
        }),
        transaction_id: is_paid.then(|| "42".to_owned()),
        paid: is_paid.then_some(PAID),
    }
}

fn refund(out_refund_no: &str, state: RefundState) -> RefundFact {
    RefundFact {
        out_trade_no: "M9".into(),
        out_refund_no: out_refund_no.into(),
        merchant_id: None,
        state,
        refund_fen: 100,
        total_fen: 100,
    }
}

#[test]
fn a_state_changes_only_where_it_can() {
    let paid = || Verdict::Paid {
        transaction_id: "42".into(),
        at: PAID,
    };
    let (waiting, done, failed, refunded) = (State::Waiting, State::Paid, State::Failed, State::Refunded);
    for (state, said, want) in [
        (waiting, TradeState::Open, Verdict::Nothing),
        (waiting, TradeState::Paid, paid()),
        (waiting, TradeState::Over, Verdict::Failed),
        (waiting, TradeState::Refunding, Verdict::Park("refunded_elsewhere")),
        (done, TradeState::Open, Verdict::Nothing),
        (done, TradeState::Paid, Verdict::Nothing),
        (done, TradeState::Over, Verdict::Park("closed_after_payment")),
        (done, TradeState::Refunding, Verdict::Nothing),
        (failed, TradeState::Open, Verdict::Nothing),
        (failed, TradeState::Paid, Verdict::Park("paid_after_failure")),
        (failed, TradeState::Over, Verdict::Nothing),
        (failed, TradeState::Refunding, Verdict::Park("paid_after_failure")),
        (refunded, TradeState::Open, Verdict::Nothing),
        (refunded, TradeState::Paid, Verdict::Nothing),
        (refunded, TradeState::Over, Verdict::Park("closed_after_payment")),
        (refunded, TradeState::Refunding, Verdict::Nothing),
    ] {
        let verdict = decide_trade(&payment(state), &trade(said), &merchant(), NOW);
        assert_eq!(verdict, want, "{state:?} {said:?}");
    }
}

#[test]
fn a_fact_that_does_not_fit_parks_whatever_the_state() {
    for state in [State::Waiting, State::Paid, State::Failed, State::Refunded] {
        type Change = fn(&mut TradeFact);
        let changes: [(&str, Change); 4] = [
            ("merchant_differs", |fact| fact.merchant.merchant_id = "191".into()),
            ("app_differs", |fact| fact.merchant.app_id = "wx2".into()),
            ("currency_differs", |fact| {
                fact.amount.as_mut().unwrap().currency = "USD".into()
            }),
            ("amount_differs", |fact| fact.amount.as_mut().unwrap().fen = 99),
        ];
        for (reason, change) in changes {
            let mut fact = trade(TradeState::Paid);
            change(&mut fact);
            let verdict = decide_trade(&payment(state), &fact, &merchant(), NOW);
            assert_eq!(verdict, Verdict::Park(reason), "{state:?}");
        }
    }
    let mut twice = trade(TradeState::Paid);
    twice.transaction_id = Some("43".into());
    let verdict = decide_trade(&payment(State::Paid), &twice, &merchant(), NOW);
    assert_eq!(verdict, Verdict::Park("paid_twice"));
}

#[test]
fn refunds_follow_what_was_asked_for() {
    for (state, said, want) in [
        (State::Paid, RefundState::Done, Verdict::Refunded),
        (State::Paid, RefundState::Processing, Verdict::Nothing),
        (State::Paid, RefundState::Closed, Verdict::RefundOver),
        (State::Paid, RefundState::Abnormal, Verdict::Park("refund_abnormal")),
        (State::Refunded, RefundState::Done, Verdict::Nothing),
        (State::Refunded, RefundState::Processing, Verdict::Nothing),
        (State::Refunded, RefundState::Closed, Verdict::Park("refund_reversed")),
        (State::Waiting, RefundState::Done, Verdict::Park("refund_unpaid")),
        (State::Failed, RefundState::Done, Verdict::Park("refund_unpaid")),
    ] {
        let verdict = decide_refund_fact(&refunding(state), &refund("M9-2", said), &merchant());
        assert_eq!(verdict, want, "{state:?} {said:?}");
    }
    let decide = |payment: &Payment, fact: &RefundFact| decide_refund_fact(payment, fact, &merchant());
    let asked = refunding(State::Paid);
    assert_eq!(
        decide(&asked, &refund("M9-1", RefundState::Closed)),
        Verdict::Nothing,
        "late"
    );
    assert_eq!(
        decide(&asked, &refund("M9-1", RefundState::Done)),
        Verdict::Park("refund_unknown")
    );
    assert_eq!(
        decide(&asked, &refund("X", RefundState::Done)),
        Verdict::Park("refund_unknown")
    );
    let nobody_asked = payment(State::Paid);
    assert_eq!(
        decide(&nobody_asked, &refund("M9-0", RefundState::Done)),
        Verdict::Park("refund_unknown")
    );
    let part = RefundFact {
        refund_fen: 1,
        ..refund("M9-2", RefundState::Done)
    };
    assert_eq!(decide(&asked, &part), Verdict::Park("refund_amount_differs"));
    let foreign = RefundFact {
        merchant_id: Some("191".into()),
        ..refund("M9-2", RefundState::Done)
    };
    assert_eq!(decide(&asked, &foreign), Verdict::Park("merchant_differs"));
}

#[test]
fn only_what_was_paid_is_given_back_and_once() {
    let not_paid = Err(PaymentError::NotPaid);
    let parked = Payment {
        parked: Some(Parked {
            reason: "x".into(),
            at: NOW,
        }),
        ..payment(State::Paid)
    };
    for (payment, refund_no, want) in [
        (payment(State::Paid), "F1", Ok(RefundStep::Begin)),
        (refunding(State::Paid), "F1", Ok(RefundStep::Again)),
        (refunding(State::Paid), "F2", Err(PaymentError::OtherRefund)),
        (refunding(State::Refunded), "F1", Ok(RefundStep::Done)),
        (refunding(State::Refunded), "F2", not_paid.clone()),
        (payment(State::Waiting), "F1", not_paid.clone()),
        (payment(State::Failed), "F1", not_paid.clone()),
        (parked, "F1", Err(PaymentError::Parked)),
    ] {
        assert_eq!(decide_refund(&payment, refund_no), want, "{payment:?} {refund_no}");
    }
}

#[test]
fn numbers_at_the_provider_are_found_back() {
    let payment = refunding(State::Paid);
    assert_eq!(payment_of(&payment.out_trade_no()), Some(payment.id));
    assert_eq!(payment.out_refund_no().as_deref(), Some("M9-2"));
    assert!(payment_of("9").is_none() && payment_of("M").is_none() && payment_of("M-9").is_none());
}

#[test]
fn the_provider_is_asked_about_what_is_open() {
    assert!(payment(State::Waiting).is_open() && refunding(State::Paid).is_open());
    for closed in [payment(State::Paid), payment(State::Failed), refunding(State::Refunded)] {
        assert!(!closed.is_open());
    }
}
