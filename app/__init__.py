"""The app: Streamlit pages that put controls in front of ``labcore`` and draw its figures."""
