"""What happened, written as it happens: `records.sqlite`, rows of (round, site, metric, value)."""

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class _Base(DeclarativeBase):
    pass


class Record(_Base):
    """One figure or event of one round; `site` is empty for what concerns all."""

    __tablename__ = "records"

    id: Mapped[int] = mapped_column(primary_key=True)
    time: Mapped[str] = mapped_column(String(32))
    round: Mapped[int]
    site: Mapped[str] = mapped_column(String(64))
    metric: Mapped[str] = mapped_column(String(80))
    value: Mapped[float | None]
    text: Mapped[str | None]


class Records:
    """The records of one experiment. Each call is committed at once, so that a reader sees it."""

    def __init__(self, path: Path) -> None:
        self._engine = create_engine(f"sqlite:///{path}")
        _Base.metadata.create_all(self._engine)

    def add(
        self, round_: int, site: str, values: dict[str, float | None] | None = None, **texts: str
    ) -> None:
        """Write some figures, and events as text, of one site in one round."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with Session(self._engine) as session:
            for metric, value in (values or {}).items():
                session.add(Record(time=now, round=round_, site=site, metric=metric, value=value))
            for metric, text in texts.items():
                session.add(Record(time=now, round=round_, site=site, metric=metric, text=text))
            session.commit()

    def all(self) -> list[Record]:
        """All records in the order they were written."""
        with Session(self._engine) as session:
            return list(session.scalars(select(Record).order_by(Record.id)))

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()
