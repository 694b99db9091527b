"""The Streamlit app: `streamlit run app/main.py` shows which tokens enter which layer."""
