"""Features, and a view of bars with their features."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table and the view."""
    op.execute("""
        create table market_features (
          symbol text not null,
          timeframe text not null,
          "timestamp" timestamptz not null,
          log_return float8,
          pct_return float8,
          realised_vol_20 float8,
          realised_vol_60 float8,
          true_range float8,
          atr_14 float8,
          natr_14 float8,
          rsi_14 float8,
          macd float8,
          macd_signal float8,
          macd_histogram float8,
          bb_upper_20 float8,
          bb_middle_20 float8,
          bb_lower_20 float8,
          bb_width_20 float8,
          bb_percent_b_20 float8,
          sma_20 float8,
          sma_50 float8,
          ema_12 float8,
          ema_26 float8,
          ema_50 float8,
          adx_14 float8,
          plus_di_14 float8,
          minus_di_14 float8,
          stoch_k_14 float8,
          stoch_d_14 float8,
          williams_r_14 float8,
          mfi_14 float8,
          cci_20 float8,
          cmf_20 float8,
          roc_10 float8,
          session_vwap float8,
          obv_change_20 float8,
          volume_zscore_20 float8,
          computed_at timestamptz not null default now(),
          primary key (symbol, timeframe, "timestamp")
        )""")
    op.execute("""
        comment on table market_features is
          'Features of every bar, in the units of its own day (splits before it are accounted for, later ones are not).
           NULL: not enough bars before, or not defined for them.'""")
    op.execute("""
        create view market_data_v2 as
        select m.*,
          f.log_return, f.pct_return, f.realised_vol_20, f.realised_vol_60, f.true_range, f.atr_14,
          f.natr_14, f.rsi_14, f.macd, f.macd_signal, f.macd_histogram, f.bb_upper_20,
          f.bb_middle_20, f.bb_lower_20, f.bb_width_20, f.bb_percent_b_20, f.sma_20, f.sma_50,
          f.ema_12, f.ema_26, f.ema_50, f.adx_14, f.plus_di_14, f.minus_di_14,
          f.stoch_k_14, f.stoch_d_14, f.williams_r_14, f.mfi_14, f.cci_20, f.cmf_20,
          f.roc_10, f.session_vwap, f.obv_change_20, f.volume_zscore_20,
          f.computed_at
        from market_data m left join market_features f using (symbol, timeframe, "timestamp")""")


def downgrade() -> None:
    """Drop both."""
    op.execute("drop view market_data_v2")
    op.execute("drop table market_features")
